//! Values: a head and a tail, and patches of them.
//!
//! A value has two parts. The *head* stands beside its key in a table's data block; the *tail*,
//! when it is large, stands apart in a value block, so that a scan that looks only at keys and
//! heads never reads the tails. A plain value is all head.

use bytes::Bytes;

/// A key's value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Value {
    /// The part that stands beside the key.
    pub head: Bytes,
    /// The part that may stand apart.
    pub tail: Bytes,
}
