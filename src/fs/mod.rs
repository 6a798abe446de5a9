//! Files and directories on keys.
