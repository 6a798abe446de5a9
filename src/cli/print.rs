//! Names and values on the terminal: one line each, whatever bytes they hold.
//!
//! Text is printed as it is. A backslash, a control character (tab and newline too) and every
//! byte that is not UTF-8 are escaped: `\\`, `\t`, `\n`, `\r`, or `\x` and two hex digits. So a
//! name can't forge a second line or a column, and the escapes can be undone without loss.

use crate::cli::error::{CliError, Result};
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};

/// Standard output.
pub fn output() -> BufWriter<io::StdoutLock<'static>> {
    BufWriter::with_capacity(64 << 10, io::stdout().lock())
}

/// What became of writing to it.
pub fn written(done: io::Result<()>) -> Result<()> {
    done.map_err(|error| CliError::system("write to standard output", error))
}

/// Writes bytes in escaped form, piece by piece: a character may be cut between two pieces.
pub struct Escaper<W: Write> {
    out: W,
    /// The start of a character whose end has not come yet: at most three bytes.
    cut: Vec<u8>,
}

impl<W: Write> Escaper<W> {
    /// Escapes onto `out`.
    pub fn new(out: W) -> Escaper<W> {
        Escaper { out, cut: Vec::new() }
    }

    /// Writes what is left of a character that was cut off by the end.
    pub fn finish(mut self) -> io::Result<()> {
        let rest = escape(&self.cut);
        self.cut.clear();
        self.out.write_all(rest.as_bytes())
    }
}

impl<W: Write> Write for Escaper<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let mut bytes = std::mem::take(&mut self.cut);
        bytes.extend_from_slice(piece);
        let whole = bytes.len() - unfinished(&bytes);
        self.cut = bytes.split_off(whole);
        self.out.write_all(escape(&bytes).as_bytes())?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// How many bytes at the end are the start of a character.
fn unfinished(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        // An invalid end of under four bytes that more bytes could complete.
        Some(last) if !last.invalid().is_empty() => match std::str::from_utf8(last.invalid()) {
            Err(error) if error.error_len().is_none() => last.invalid().len(),
            _ => 0,
        },
        _ => 0,
    }
}

/// The whole of `bytes` in escaped form.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\t' => text.push_str("\\t"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                control if control.is_control() => {
                    let mut utf8 = [0; 4];
                    push_hex(&mut text, control.encode_utf8(&mut utf8).as_bytes());
                }
                plain => text.push(plain),
            }
        }
        push_hex(&mut text, chunk.invalid());
    }
    text
}

/// A point in time as year, month, day, hours, minutes and seconds in UTC, from seconds since 1970.
pub fn time(secs: i64) -> String {
    const DAY: i64 = 24 * 60 * 60;
    let (days, second) = (secs.div_euclid(DAY), secs.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (hours, minutes, seconds) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}Z")
}

/// Year, month and day of a number of days since 1970. Years are counted from March, so that a leap day
/// is the last of its year; 400 years are always 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let january = i64::from(month >= 10);
    (era * 400 + year + january, month + 3 - 12 * january, day - (153 * month + 2) / 5 + 1)
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("a string takes what is written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_stays_and_the_rest_is_escaped() {
        assert_eq!(escape("größe 大".as_bytes()), "größe 大");
        assert_eq!(escape(b"a\tb\nc\\d\r\0\x1b\xff"), r"a\tb\nc\\d\r\x00\x1b\xff");
        assert_eq!(escape("\u{85}".as_bytes()), r"\xc2\x85");
        assert_eq!(escape(b"\xe5\xa4"), r"\xe5\xa4");
    }

    #[test]
    fn times_are_for_people() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(time(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(time(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(time(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(time(-1), "1969-12-31T23:59:59Z");
        assert_eq!(time(-2_203_891_200), "1900-03-01T00:00:00Z");
        time(i64::MIN);
        time(i64::MAX);
    }

    /// Undoes [`escape`].
    fn unescape(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes().iter();
        while let Some(&byte) = rest.next() {
            bytes.push(match (byte, (byte == b'\\').then(|| *rest.next().unwrap())) {
                (plain, None) => plain,
                (_, Some(b't')) => b'\t',
                (_, Some(b'n')) => b'\n',
                (_, Some(b'r')) => b'\r',
                (_, Some(b'x')) => {
                    let digits = [*rest.next().unwrap(), *rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                (_, Some(itself)) => itself,
            });
        }
        bytes
    }

    proptest! {
        #[test]
        fn escapes_are_one_line_and_lose_nothing(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = escape(&bytes);
            prop_assert!(!text.contains(char::is_control));
            prop_assert_eq!(unescape(&text), bytes);
        }

        #[test]
        fn pieces_make_the_same_text(text in "\\PC{0,12}", noise in prop::collection::vec(any::<u8>(), 0..6),
                                     size in 1usize..5) {
            let bytes = [text.as_bytes(), &noise, text.as_bytes()].concat();
            let mut out = Vec::new();
            let mut escaper = Escaper::new(&mut out);
            for piece in bytes.chunks(size) {
                escaper.write_all(piece).unwrap();
            }
            escaper.finish().unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), escape(&bytes));
        }
    }
}
