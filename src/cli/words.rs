//! Lines of words: what the shell and batches read.
//!
//! Words stand apart by blanks. A word may be quoted with `"`; in and outside of quotes the escapes
//! that `scan` and `ls` print are understood (`\n`, `\t`, `\r`, `\\`, `\x` and two hex digits), and `\"`. A
//! line that is empty or starts with `#` has no words.

use crate::cli::error::{CliError, Result};
use std::io::{self, BufRead};

/// The longest line that is read.
pub const LINE_MAX: u64 = 16 << 20;

/// The next line of plain input, without its end; `None` at the end of the input.
pub fn read_line(input: &mut dyn BufRead) -> Result<Option<Vec<u8>>> {
    let failed = |error| CliError::system("read a line", error);
    let mut line = Vec::new();
    let len = io::Read::take(input, LINE_MAX).read_until(b'\n', &mut line).map_err(failed)?;
    if len as u64 == LINE_MAX {
        return Err(failed(io::Error::other("the line is too long")));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok((len > 0).then_some(line))
}

/// The words of a line.
pub fn words(line: &[u8]) -> std::result::Result<Vec<Vec<u8>>, &'static str> {
    if line.trim_ascii_start().starts_with(b"#") {
        return Ok(Vec::new());
    }
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quoted = false;
    let mut rest = line.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            b'\\' => word.get_or_insert_default().push(escaped(&mut rest)?),
            blank if blank.is_ascii_whitespace() && !quoted => words.extend(word.take()),
            plain => word.get_or_insert_default().push(*plain),
        }
    }
    words.extend(word);
    if quoted { Err("a quote is not closed") } else { Ok(words) }
}

/// The byte that is meant by what follows a backslash.
fn escaped(rest: &mut std::slice::Iter<'_, u8>) -> std::result::Result<u8, &'static str> {
    match rest.next() {
        Some(b'n') => Ok(b'\n'),
        Some(b't') => Ok(b'\t'),
        Some(b'r') => Ok(b'\r'),
        Some(same @ (b'\\' | b'"')) => Ok(*same),
        Some(b'x') => {
            let mut digit = || rest.next().and_then(|byte| char::from(*byte).to_digit(16));
            let (high, low) = digit().zip(digit()).ok_or("two hex digits are wanted after \\x")?;
            Ok((high * 16 + low) as u8)
        }
        _ => Err("unknown escape (\\n, \\t, \\r, \\\\, \\\" and \\x00 are known)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::print::escape;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_printed_can_be_typed(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            let typed = format!("\"{}\"", escape(&bytes).replace('"', "\\\""));
            prop_assert_eq!(words(typed.as_bytes()).unwrap(), [bytes]);
        }
    }
}
