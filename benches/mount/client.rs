//! The workload's process, from the side of who measures.

use crate::work::{Step, WorkArgs};
use crate::{Result, own_program};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// A process that does the workload's steps when it is told.
pub struct Client {
    process: Child,
    steps: ChildStdin,
    times: BufReader<ChildStdout>,
}

impl Client {
    /// Starts it. It runs on the processors that this thread may use.
    pub fn start(args: &WorkArgs) -> Result<Client> {
        let mut command = own_program()?;
        command.arg("work").args(args.to_args()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let steps = process.stdin.take().ok_or("no standard input")?;
        let times = BufReader::new(process.stdout.take().ok_or("no standard output")?);
        Ok(Client { process, steps, times })
    }

    /// Does a step; returns the seconds that it took.
    pub fn step(&mut self, step: Step) -> Result<f64> {
        writeln!(self.steps, "{}", step.name())?;
        let mut seconds = String::new();
        self.times.read_line(&mut seconds)?;
        Ok(seconds.trim().parse().map_err(|_| format!("{} failed", step.name()))?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It holds nothing that would have to be given back.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
