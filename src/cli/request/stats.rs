//! A store's figures.

use crate::cli::error::Result;
use crate::cli::print::{escape, written};
use crate::cli::request::Job;
use crate::fs::figures;
use crate::fs::tree::Tree;
use crate::lsm::stats::StoreStats;
use serde::Serialize;

/// The figures as JSON.
#[derive(Serialize)]
struct Report<'a> {
    /// The store's directory, escaped.
    store: &'a str,
    /// Regular files.
    files: u64,
    /// Directories, without the root.
    directories: u64,
    /// Other files: symbolic links, devices …
    others: u64,
    #[serde(flatten)]
    stats: &'a StoreStats,
}

/// Prints the figures, and the number of a volume's files.
pub fn print(job: &mut Job<'_>, volume: &str, json: bool) -> Result<()> {
    let store = &escape(job.store.path().as_os_str().as_encoded_bytes());
    let volume = job.files(volume)?;
    let stats = job.store.engine().stats();
    let (files, directories, others) = Tree::new(&volume).count()?;
    let text = if json {
        figures::json(&Report { store, files, directories, others, stats: &stats })
    } else {
        let figures = figures::text(&stats);
        format!("store {store}\n{figures}  files {files}, directories {directories}, others {others}\n")
    };
    written(job.output.write_all(text.as_bytes()))
}
