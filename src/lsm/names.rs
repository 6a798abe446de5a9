//! The names of a store's files: words around a number, written with at least six digits.

/// The largest number. Far more than are ever used, and far enough from overflow to count on from.
pub const MAX_NUMBER: u64 = 1 << 56;

/// The number in `name`, if that is how a store names a file: `7.log` and `+000007.log` are not
/// `000007.log`.
pub fn parse(name: &str, prefix: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let number = digits.parse().ok().filter(|number| *number <= MAX_NUMBER)?;
    (format!("{number:06}") == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_as_they_are_written_have_a_number() {
        assert_eq!(parse("000007.log", "", ".log"), Some(7));
        assert_eq!(parse("edits-1234567", "edits-", ""), Some(1_234_567));
        let others = [
            "7.log",
            "0000007.log",
            "+000007.log",
            "000007.log ",
            "000007",
            ".log",
            "18446744073709551615.log",
        ];
        assert_eq!(others.map(|name| parse(name, "", ".log")), [None; 7]);
    }
}
