//! Numbers on the command line, and what is wrong with those that cannot be used.

use std::str::FromStr;

/// A whole number from 1.
pub fn at_least_one<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T, String> {
    let number: T = text.parse().map_err(|_| "it must be a whole number, at least 1".to_owned())?;
    if number >= T::from(1) { Ok(number) } else { Err("it must be at least 1".into()) }
}

/// A number above 0.
pub fn positive<T: FromStr + Copy + Into<f64>>(text: &str) -> Result<T, String> {
    finite(text, |number| number > 0.0, "it must be a number above 0")
}

/// A number that is not below 0.
pub fn not_negative<T: FromStr + Copy + Into<f64>>(text: &str) -> Result<T, String> {
    finite(text, |number| number >= 0.0, "it must be a number, 0 or more")
}

/// A share that is less than the whole.
pub fn below_one(text: &str) -> Result<f64, String> {
    finite(text, |number| (0.0..1.0).contains(&number), "it must be a number from 0 up to, but not including, 1")
}

fn finite<T: FromStr + Copy + Into<f64>>(text: &str, allowed: impl Fn(f64) -> bool, wrong: &str) -> Result<T, String> {
    text.parse().ok().filter(|number: &T| (*number).into().is_finite() && allowed((*number).into())).ok_or_else(|| wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_used_is_taken() {
        assert_eq!(
            (at_least_one::<u64>("1"), positive("1e-4"), not_negative("0"), below_one("0.999")),
            (Ok(1), Ok(1e-4), Ok(0.0f32), Ok(0.999))
        );
        assert!(at_least_one::<usize>("0").unwrap_err().contains("at least 1"));
        assert!(["-1", "1.5", "x"].iter().all(|text| at_least_one::<u64>(text).is_err()));
        for text in ["nan", "inf", "-1", "x", ""] {
            assert!(positive::<f64>(text).is_err() && not_negative::<f64>(text).is_err() && below_one(text).is_err(), "{text}");
        }
        assert!(positive::<f32>("0").is_err() && below_one("1").is_err() && below_one("2").is_err());
    }
}
