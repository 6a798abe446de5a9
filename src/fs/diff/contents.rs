//! Comparing the contents of two files of one size.

use super::side::{File, Side};
use crate::fs::keys;
use crate::fs::node::Outcome;
use crate::lsm::Scan;
use bytes::Bytes;
use std::ops::Bound;

/// A file's stored chunks, in order. Small contents are the first.
enum Stored {
    Inline(Option<Bytes>),
    Chunks(Box<Scan>),
}

impl Stored {
    fn of((side, file): (&Side, &File)) -> Outcome<Stored> {
        if file.record.pages == 0 {
            return Ok(Stored::Inline(Some(file.inline.clone())));
        }
        let (from, to) = keys::chunks(file.record.ino);
        let scan = side.snapshot.scan(Bound::Included(&from), Bound::Excluded(&to))?;
        Ok(Stored::Chunks(Box::new(scan)))
    }

    fn next(&mut self) -> Outcome<Option<(u32, Bytes)>> {
        match self {
            Stored::Inline(contents) => Ok(contents.take().map(|contents| (0, contents))),
            Stored::Chunks(scan) => {
                while scan.next()? {
                    // Which pages are holes says nothing of what they read as.
                    if let Some(number) = keys::chunk_number(scan.key()) {
                        return Ok(Some((number, scan.tail()?)));
                    }
                }
                Ok(None)
            }
        }
    }
}

/// Do two files of one size read the same?
pub(super) fn are_same(a: (&Side, &File), b: (&Side, &File)) -> Outcome<bool> {
    let (mut a, mut b) = (Stored::of(a)?, Stored::of(b)?);
    let (mut next_a, mut next_b) = (a.next()?, b.next()?);
    loop {
        let number = match (&next_a, &next_b) {
            (None, None) => return Ok(true),
            (Some((a, _)), Some((b, _))) => *a.min(b),
            (Some((one, _)), None) | (None, Some((one, _))) => *one,
        };
        let of = |next: &Option<(u32, Bytes)>| match next {
            Some((at, bytes)) if *at == number => bytes.clone(),
            _ => Bytes::new(),
        };
        let (bytes_a, bytes_b) = (of(&next_a), of(&next_b));
        if !read_the_same(&bytes_a, &bytes_b) {
            return Ok(false);
        }
        if next_a.as_ref().is_some_and(|(at, _)| *at == number) {
            next_a = a.next()?;
        }
        if next_b.as_ref().is_some_and(|(at, _)| *at == number) {
            next_b = b.next()?;
        }
    }
}

/// What is not stored reads as zeros.
fn read_the_same(a: &[u8], b: &[u8]) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    let (same, rest) = long.split_at(short.len());
    same == short && rest.iter().all(|byte| *byte == 0)
}
