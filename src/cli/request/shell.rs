//! The shell's commands.

use crate::cli::error::{CliError, Result};
use crate::cli::print::{Escaper, written};
use crate::cli::request::Job;
use crate::cli::request::files::{OUTPUT_BYTES, print_directory, print_range, tree};
use crate::cli::shell::command::Command;
use crate::cli::shell::records;
use crate::fs::figures::{self, size, time};
use crate::fs::tree::{Tree, TreePath};
use crate::lsm::Store;
use std::io::{BufWriter, Write};
use std::time::Instant;

/// Does a command. With `confirm` it says what was done, where there is nothing else to print.
pub fn obey(job: &mut Job<'_>, volume: &str, command: &Command, confirm: bool) -> Result<()> {
    let (store, files) = (job.store, job.files(volume)?);
    let (tree, engine) = (tree(job, &files), store.engine());
    let out = &mut BufWriter::with_capacity(OUTPUT_BYTES, &mut *job.output);
    let mut done = None;
    match command {
        Command::Fill { from, to } => done = Some(fill(&tree, *from, *to)?),
        Command::Put { path, value } => put(&tree, path, value)?,
        Command::Get { path } => {
            let mut value = Escaper::new(&mut *out);
            tree.read(path, |piece| written(value.write_all(piece)))?;
            written(value.finish().and_then(|()| out.write_all(b"\n")))?;
        }
        Command::Del { path } => tree.remove(path, false)?,
        Command::Scan { from, to } => print_range(&tree, from.as_ref(), to.as_ref(), true, out)?,
        Command::Ls { path } => print_directory(&tree, path, false, out)?,
        Command::Flush | Command::Compact => {
            let worked = if *command == Command::Flush { engine.flush() } else { engine.compact() };
            worked.map_err(|error| CliError::engine(store.path(), error))?;
            done = Some(levels(engine));
        }
        Command::Dump { keys: false } => print(out, &figures::structure(&engine.stats()))?,
        Command::Dump { keys: true } => records::print(store, &files, out)?,
        Command::Stats { json: false } => print(out, &figures::text(&engine.stats()))?,
        Command::Stats { json: true } => print(out, &figures::json(&engine.stats()))?,
        // The session's own affair.
        Command::Help | Command::Quit => (),
    }
    if let Some(done) = done.filter(|_| confirm) {
        print(out, &format!("{done}\n"))?;
    }
    written(out.flush())
}

/// Puts the values of a range of numbers.
fn fill(tree: &Tree<'_>, from: u64, to: u64) -> Result<String> {
    let started = Instant::now();
    for number in from..=to {
        let path = TreePath::parse(number.to_string().as_bytes())?;
        put(tree, &path, format!("value{number}").as_bytes())?;
    }
    let took = time(started.elapsed().as_nanos() as u64);
    Ok(format!("{} values in {took}", u128::from(to - from) + 1))
}

fn put(tree: &Tree<'_>, path: &TreePath, mut value: &[u8]) -> Result<()> {
    tree.write(path, |piece| {
        let (now, later) = value.split_at(value.len().min(piece.len()));
        piece[..now.len()].copy_from_slice(now);
        value = later;
        Ok::<_, CliError>(now.len())
    })
}

/// The levels that hold tables, in a line.
fn levels(engine: &Store) -> String {
    let stats = engine.stats();
    let levels = stats.volumes.iter().flat_map(|volume| volume.levels.iter().enumerate());
    let filled = levels.filter(|(_, tables)| !tables.is_empty()).map(|(level, tables)| {
        let bytes = tables.iter().map(|table| table.bytes).sum();
        format!("level {level}: {} tables, {}", tables.len(), size(bytes))
    });
    let filled: Vec<String> = filled.collect();
    if filled.is_empty() { "no tables".to_string() } else { filled.join("; ") }
}

fn print(out: &mut impl Write, text: &str) -> Result<()> {
    written(out.write_all(text.as_bytes()))
}
