//! Numbers as people write them.

use crate::cli::request::Limit;

/// Reads a limit of bytes: a number with a unit, or `none`.
pub fn bytes_limit(text: &str) -> Result<Limit, String> {
    limit(text, bytes)
}

/// Reads a limit of files: a number, or `none`.
pub fn files_limit(text: &str) -> Result<Limit, String> {
    limit(text, |text| text.parse().map_err(|_| "not a number of files".to_string()))
}

fn limit(text: &str, number: impl FnOnce(&str) -> Result<u64, String>) -> Result<Limit, String> {
    if text == "none" { Ok(Limit::None) } else { number(text).map(Limit::AtMost) }
}

/// A number of bytes: `500`, `64K`, `10G`, `1.5T`. Units are powers of 1024 (K, KiB), or of 1000 (KB).
fn bytes(text: &str) -> Result<u64, String> {
    let refused = || "not a size: 500, 64K, 10G or 1.5T are".to_string();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let mut letters = unit.chars();
    let power = match letters.next().map(|letter| letter.to_ascii_uppercase()) {
        None | Some('B') => 0,
        Some(letter) => "KMGTPE".find(letter).ok_or_else(refused)? as i32 + 1,
    };
    let base: u64 = match (power, letters.as_str()) {
        (0, "") => 1,
        (1.., "" | "iB") => 1024,
        (1.., "B") => 1000,
        _ => return Err(refused()),
    };
    let factor = base.pow(power as u32);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(|| "larger than any volume".to_string());
    }
    let fraction: f64 = number.parse().map_err(|_| refused())?;
    Ok((fraction * factor as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let read = |text: &str| bytes(text).ok();
        let sizes = ["0", "500", "500B", "64K", "64k", "10GiB", "3MB", "1.5T", "15E"].map(read);
        let [k, m, g, t] = [10, 20, 30, 40].map(|power| 1u64 << power);
        assert_eq!(
            sizes.map(Option::unwrap),
            [0, 500, 500, 64 * k, 64 * k, 10 * g, 3_000_000, t + t / 2, 15 * (m << 40)]
        );
        for bad in ["", "K", "-1", "1X", "1KK", "1.2.3G", "1GIB", "16E", "ten", "None", "1 G", "."] {
            assert!(bytes_limit(bad).is_err(), "{bad}");
        }
        assert_eq!(
            (bytes_limit("none"), files_limit("none"), files_limit("7")),
            (Ok(Limit::None), Ok(Limit::None), Ok(Limit::AtMost(7)))
        );
        assert!(files_limit("7K").is_err() && files_limit("-7").is_err());
    }
}
