//! What fuzzing puts into the lock's file (see [`crate::fuzzing`]).

use super::{decode_owner, encode_owner, mountinfo_shows};
use crate::fuzzing::Target;
use std::path::Path;

pub(crate) const TARGETS: &[(&str, Target)] = &[("lock_owner", lock_owner)];

fn lock_owner(input: &[u8]) {
    let owner = decode_owner(input);
    let again = decode_owner(&encode_owner(&owner));
    assert_eq!((again.pid, again.mount, again.closing), (owner.pid, owner.mount, owner.closing));
    let _ = mountinfo_shows(input, Path::new("/mnt"));
}
