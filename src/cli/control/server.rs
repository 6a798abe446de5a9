//! The daemon's side of the conversations.
//!
//! One thread accepts, each client has one of its own. A panic while a request is executed is its answer, and the
//! daemon stays.
//!
//! Locks: `clients`, and below it each line's `since`; both leaves for everybody else.

use crate::cli::control::frame::{Kind, VERSION};
use crate::cli::control::line::Line;
use crate::cli::control::mounting::{self, MountRequest};
use crate::cli::control::socket;
use crate::cli::error::{CliError, Result};
use crate::cli::request::Request;
use crate::fs::Caller;
use parking_lot::{Condvar, Mutex};
use rustix::net::{Shutdown, shutdown, sockopt::socket_peercred};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// Clients that are served at once.
pub const CLIENTS_MAX: usize = 32;

/// How long a client may take to say what it wants.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take for each frame that it sends or takes.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a client may take to make the mount that it asked for.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that has kept its thread waiting for so long makes room for another one, if all are taken.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the clients may take for the rest when the daemon ends, and how long their requests may then take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Executes requests.
pub trait Execute: Send + Sync + 'static {
    /// Does what is asked, on behalf of `caller`.
    fn execute(
        &self,
        request: &Request,
        caller: Caller,
        input: &mut dyn Read,
        output: &mut dyn Write,
    ) -> Result<()>;

    /// Has a mount made that this process serves.
    fn mount(&self, request: &MountRequest, client: &Line) -> Result<Mounting>;
}

/// What became of a mount.
#[derive(Debug, PartialEq, Eq)]
pub enum Mounting {
    /// It is served, or the client binds it.
    Done,
    /// This process, or a mount in the way, is ending: the client is to ask again.
    Later,
}

/// A daemon that takes requests.
pub struct Server {
    store: PathBuf,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    listener: UnixListener,
    executor: Arc<dyn Execute>,
    clients: Mutex<Clients>,
    /// A client has left.
    left: Condvar,
}

#[derive(Default)]
struct Clients {
    served: HashMap<u64, Arc<Line>>,
    next: u64,
    ended: bool,
}

impl Server {
    /// Listens in the directory of a store that this process has open.
    pub fn start(store: &Path, executor: Arc<dyn Execute>) -> io::Result<Server> {
        let listener = socket::listen(store)?;
        let (clients, left) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { listener, executor, clients, left });
        let accepting = thread::Builder::new().name("control".to_string()).spawn({
            let shared = shared.clone();
            move || shared.accept()
        })?;
        Ok(Server { store: store.to_path_buf(), shared, accepting })
    }

    /// Takes no more requests, and waits, with a bound, for those under way.
    pub fn end(self) {
        self.shared.clients.lock().ended = true;
        if let Err(error) = socket::remove(&self.store) {
            warn!("remove the control socket: {error}");
        }
        // Wakes the one that accepts.
        let _ = shutdown(&self.shared.listener, Shutdown::Both);
        let _ = self.accepting.join();
        if self.shared.wait_until_left(DRAIN_TIMEOUT) {
            return;
        }
        let cut = self.shared.clients.lock().served.values().map(|line| line.cut()).count();
        warn!("{cut} commands are cut off");
        if !self.shared.wait_until_left(DRAIN_TIMEOUT) {
            warn!("commands are still under way");
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>) {
        loop {
            let accepted = self.listener.accept();
            let mut clients = self.clients.lock();
            if clients.ended {
                return;
            }
            match accepted {
                Ok((stream, _)) => {
                    drop(clients);
                    self.admit(stream);
                }
                Err(error) => {
                    error!("accept a client: {error}");
                    // Too many open files, perhaps: not at once again.
                    self.left.wait_for(&mut clients, PATIENCE);
                }
            }
        }
    }

    /// Gives a client a thread, or a refusal.
    fn admit(self: &Arc<Self>, stream: UnixStream) {
        let Some(caller) = caller_of(&stream) else { return };
        let line = Arc::new(Line::new(stream, REQUEST_TIMEOUT));
        let Some(number) = self.enter(&line) else {
            let busy = CliError::Refused("too many commands are under way: try again".to_string());
            return line.refuse(&busy);
        };
        let shared = self.clone();
        let spawned = thread::Builder::new().name(format!("command {number}")).spawn(move || {
            if let Err(error) = shared.converse(&line, caller) {
                info!("a command was left: {error}");
            }
            shared.leave(number);
        });
        if let Err(error) = spawned {
            error!("start a thread for a client: {error}");
            self.leave(number);
        }
    }

    /// A number for a client, if there is a thread for it.
    fn enter(&self, line: &Arc<Line>) -> Option<u64> {
        let mut clients = self.clients.lock();
        if clients.served.len() >= CLIENTS_MAX {
            let idlest = clients.served.values().max_by_key(|line| line.waited());
            let idlest = idlest.filter(|line| line.waited() >= PATIENCE)?;
            warn!(
                "too many commands are under way: the one that waits for its client the longest is cut off"
            );
            idlest.cut();
            let deadline = Instant::now() + PATIENCE;
            while clients.served.len() >= CLIENTS_MAX {
                if self.left.wait_until(&mut clients, deadline).timed_out() {
                    return None;
                }
            }
        }
        let number = clients.next;
        clients.next += 1;
        clients.served.insert(number, line.clone());
        Some(number)
    }

    fn leave(&self, number: u64) {
        self.clients.lock().served.remove(&number);
        self.left.notify_all();
    }

    fn wait_until_left(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut clients = self.clients.lock();
        while !clients.served.is_empty() {
            if self.left.wait_until(&mut clients, deadline).timed_out() {
                return clients.served.is_empty();
            }
        }
        true
    }

    /// Hears what is wanted, has it done, and says how it ended.
    fn converse(&self, line: &Line, caller: Caller) -> io::Result<()> {
        let heard = match line.receive()? {
            None => return Ok(()),
            Some((kind, said)) => match said.split_first() {
                Some((&VERSION, said)) => Heard::decode(kind, said),
                _ => Err("not of this version".to_string()),
            },
        };
        match heard {
            Ok(Heard::Request(request)) => self.execute(line, &request, caller),
            Ok(Heard::Mount(request)) => self.mount(line, &request),
            Err(what) => {
                let hint = "the daemon is of another version, perhaps: unmount and mount again";
                line.refuse(&CliError::Refused(format!("{what}: {hint}")));
                Ok(())
            }
        }
    }

    fn execute(&self, line: &Line, request: &Request, caller: Caller) -> io::Result<()> {
        line.set_timeout(CLIENT_TIMEOUT);
        line.send(Kind::Accepted, [b"", b""])?;
        let done = guarded(|| {
            let (mut input, mut output) = (line.input(), line.output());
            self.executor.execute(request, caller, &mut input, &mut output)
        });
        line.finish(&done)
    }

    fn mount(&self, line: &Line, request: &MountRequest) -> io::Result<()> {
        line.set_timeout(MOUNT_TIMEOUT);
        match guarded(|| self.executor.mount(request, line)) {
            Ok(Mounting::Later) => line.send(Kind::Later, [b"", b""]),
            done => line.finish(&done.map(drop)),
        }
    }
}

/// What a client wants.
enum Heard {
    Request(Request),
    Mount(MountRequest),
}

impl Heard {
    fn decode(kind: Kind, said: &[u8]) -> std::result::Result<Heard, String> {
        match kind {
            Kind::Request => Request::decode(said).map(Heard::Request).map_err(|error| error.to_string()),
            Kind::Mount => mounting::decode(said).map(Heard::Mount).map_err(|error| error.to_string()),
            _ => Err("a conversation begins with a request".to_string()),
        }
    }
}

/// Does something; a panic is an error.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        error!("a command panicked");
        Err(CliError::Refused("the daemon is at fault: see daemon.log".to_string()))
    })
}

/// Who the client is, if it may ask for anything: the user of this process, or root.
fn caller_of(stream: &UnixStream) -> Option<Caller> {
    let client = socket_peercred(stream).ok()?;
    let allowed = client.uid.is_root() || client.uid == rustix::process::geteuid();
    if !allowed {
        warn!("user {} may not use the control socket", client.uid.as_raw());
    }
    allowed.then(|| Caller::new(client.uid.as_raw(), client.gid.as_raw()))
}
