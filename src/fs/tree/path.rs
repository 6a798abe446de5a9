//! Paths, taken apart.

use crate::fs::{Cause, Error, NAME_MAX, Result, Subject};
use serde::{Deserialize, Serialize};

/// A path, taken apart. Paths are ordered by their first name, then the second, and so on, each as
/// bytes: what lies below a directory stands together, after it and before its next sibling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct TreePath {
    pub(super) names: Vec<Box<[u8]>>,
}

impl TreePath {
    /// Takes a path apart. It starts at the root with or without a slash; empty names and `.` stand for
    /// nothing; `..` is refused, for it may mean another file than whoever wrote it thinks.
    pub fn parse(path: &[u8]) -> Result<TreePath> {
        let refuse = |cause: Cause| Err(cause.of("resolve", Subject::Path(path.into())));
        let mut names = Vec::new();
        for name in path.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => (),
                b".." => return refuse(Cause::Invalid("a path with .. is not taken")),
                _ if name.len() > NAME_MAX => return refuse(Cause::NameTooLong),
                _ => names.push(name.into()),
            }
        }
        Ok(TreePath { names })
    }

    /// The path as bytes, without a slash at its start; `/` for the root.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.names.is_empty() { b"/".to_vec() } else { self.names.join(&b'/') }
    }

    /// The path of a name in this directory.
    pub fn join(&self, name: &[u8]) -> TreePath {
        let mut names = self.names.clone();
        names.push(name.into());
        TreePath { names }
    }

    /// Is this `other`, or something below it?
    pub fn is_within(&self, other: &TreePath) -> bool {
        self.names.starts_with(&other.names)
    }

    /// The last name; empty for the root.
    pub(in crate::fs) fn name(&self) -> &[u8] {
        self.names.last().map_or(&[], |name| name)
    }

    /// The last name, and the path before it; `None` for the root.
    pub(in crate::fs) fn split_last(&self) -> Option<(TreePath, &[u8])> {
        let (last, parents) = self.names.split_last()?;
        Some((TreePath { names: parents.to_vec() }, last))
    }

    /// An operation on this path failed.
    pub fn error(&self, op: &'static str, cause: Cause) -> Error {
        cause.of(op, Subject::Path(self.to_bytes().into()))
    }
}

impl TryFrom<Vec<u8>> for TreePath {
    type Error = Error;

    fn try_from(path: Vec<u8>) -> Result<TreePath> {
        TreePath::parse(&path)
    }
}

impl From<TreePath> for Vec<u8> {
    fn from(path: TreePath) -> Vec<u8> {
        path.to_bytes()
    }
}

/// Says in an error which path it is about, where it spoke of an inode.
pub(super) trait OnPath<T> {
    /// `op` on `path` failed.
    fn on(self, op: &'static str, path: &TreePath) -> Result<T>;
}

impl<T> OnPath<T> for Result<T> {
    fn on(self, op: &'static str, path: &TreePath) -> Result<T> {
        self.map_err(|error| path.error(op, error.cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn slashes_and_dots_do_not_matter() {
        for text in ["a/b", "/a/b", "//a///b/", "./a/./b/."] {
            assert_eq!(path(text).to_bytes(), b"a/b");
        }
        for text in ["", "/", ".", "//."] {
            assert_eq!(path(text), TreePath::default());
        }
        assert_eq!(TreePath::default().to_bytes(), b"/");
    }

    #[test]
    fn what_leads_astray_is_refused() {
        let error = TreePath::parse(b"a/../b").unwrap_err();
        assert_eq!(error.to_string(), "resolve a/../b: a path with .. is not taken");
        assert!(matches!(TreePath::parse(&[b'x'; 256]).unwrap_err().cause, Cause::NameTooLong));
        assert!(TreePath::parse(&[b'x'; 255]).is_ok());
        assert_eq!(path("..."), TreePath { names: vec![b"...".as_slice().into()] });
    }

    #[test]
    fn what_lies_below_a_directory_stands_together() {
        let paths = ["", "a", "a/b", "a/b/c", "a/b.c", "a.b", "ab"].map(path);
        assert!(paths.is_sorted());
        assert!(paths[3].is_within(&paths[1]) && paths[1].is_within(&paths[1]));
        assert!(!paths[5].is_within(&paths[1]) && !paths[1].is_within(&paths[3]));
    }
}
