//! Where the shell's lines come from: a person at a terminal, or a pipe or file.

use crate::cli::error::{CliError, Result};
use crate::cli::words::read_line;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use std::io::{self, IsTerminal};

const PROMPT: &str = "lsmfs> ";

/// A source of lines.
pub enum Input {
    /// With line editing and a history of this session.
    Terminal(Box<DefaultEditor>),
    /// As they are.
    Plain,
}

impl Input {
    /// The process's input.
    pub fn open() -> Result<Input> {
        match io::stdin().is_terminal() && io::stdout().is_terminal() {
            true => Ok(Input::Terminal(Box::new(DefaultEditor::new().map_err(failed)?))),
            false => Ok(Input::Plain),
        }
    }

    /// Does a person type?
    pub fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal(_))
    }

    /// The next line, without its end; `None` at the end of the input.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>> {
        match self {
            Input::Terminal(editor) => ask(editor),
            Input::Plain => read_line(&mut io::stdin().lock()),
        }
    }
}

fn ask(editor: &mut DefaultEditor) -> Result<Option<Vec<u8>>> {
    loop {
        match editor.readline(PROMPT) {
            Ok(line) => {
                editor.add_history_entry(&line).map_err(failed)?;
                return Ok(Some(line.into_bytes()));
            }
            // Ctrl-C: away with the line.
            Err(ReadlineError::Interrupted) => (),
            Err(ReadlineError::Eof) => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
    }
}

fn failed(error: ReadlineError) -> CliError {
    match error {
        ReadlineError::Io(error) => CliError::system("read a command", error),
        other => CliError::Refused(format!("read a command: {other}")),
    }
}
