//! What differs between two volumes.

use crate::cli::error::Result;
use crate::cli::print::{escape, written};
use crate::cli::request::Job;
use crate::fs::diff::{Difference, diff};
use std::io::{BufWriter, Write};

/// Prints the paths that differ.
pub fn print(job: &mut Job<'_>, from: &str, to: &str) -> Result<()> {
    let host = job.store.host();
    let (from, to) = (job.engine(host.volume(from))?, job.engine(host.volume(to))?);
    let mut out = BufWriter::new(&mut job.output);
    diff(&from, &to, |difference, path| {
        let letter = match difference {
            Difference::Added => 'A',
            Difference::Removed => 'D',
            Difference::Changed => 'M',
        };
        written(writeln!(out, "{letter} {}", escape(&path.to_bytes())))
    })?;
    written(out.flush())
}
