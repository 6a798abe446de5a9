//! The control socket: commands on a store that a daemon has open.
//!
//! The daemon listens on the Unix socket `control` in the store's directory. A client connects for one request:
//!
//! ```text
//! client                          daemon
//! REQUEST (version, JSON)    →
//!                            ←    ACCEPTED          from here on it is executed
//!                            ←    WANT              for each piece of input
//! DATA | END | FAILED        →
//!                            ←    OUTPUT            as often as there is some
//!                            ←    DONE (status, message)
//! ```
//!
//! A mount is asked for in its own way ([`mounting`]).
//!
//! The two never speak at once: the daemon asks for input when it needs it, so that neither waits for the other
//! to read. What a request is and how it is executed is not of concern here ([`crate::cli::request`]). A message
//! is a frame ([`frame`]).
//!
//! # Who may
//! The owner of the store, and root: the socket has mode 0600 in a directory of mode 0700, and the daemon asks
//! the kernel who the client is.
//!
//! # Bounds
//! A frame has at most [`frame::MAX_BYTES`]. So many clients are served at once ([`server::CLIENTS_MAX`]), each on
//! a thread; when there are more, the one that has kept its thread waiting the longest is cut off. A client has
//! [`server::REQUEST_TIMEOUT`] to say what it wants, and then [`server::CLIENT_TIMEOUT`] for each frame that is sent
//! or taken. So who is slow, or means harm, holds up nobody but himself.

pub mod client;
pub mod frame;
pub mod line;
pub mod mounting;
mod passing;
pub mod server;
mod socket;
