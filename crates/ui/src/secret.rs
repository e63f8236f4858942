//! Secrets: 256 random bits in hexadecimal digits.

use std::fs::File;
use std::io::{self, Read};

/// A secret that only the right clients know.
pub(crate) struct Secret(String);

impl Secret {
    /// Makes one.
    ///
    /// # Errors
    /// The system's source of random octets cannot be read.
    pub(crate) fn new() -> io::Result<Secret> {
        let mut octets = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut octets)?;
        Ok(Secret(octets.iter().map(|octet| format!("{octet:02x}")).collect()))
    }

    /// Compares in a time that does not tell how much of `text` is right.
    pub(crate) fn is(&self, text: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), text.as_bytes());
        let pairs = ours.iter().zip(theirs);
        let difference = pairs.fold(0, |difference, (one, other)| difference | (one ^ other));
        ours.len() == theirs.len() && std::hint::black_box(difference) == 0
    }

    /// The digits, for whom the secret is.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_secret_is_it() {
        let secret = Secret::new().expect("random octets");
        let digits = secret.reveal().to_owned();

        assert_eq!(digits.len(), 64);
        assert!(secret.is(&digits));
        assert!(!secret.is(&digits[..63]) && !secret.is("") && !secret.is(&format!("{digits}0")));
        assert!(!secret.is(&digits.replace(|c: char| c.is_ascii_digit(), "x")));
        assert_ne!(Secret::new().expect("random octets").reveal(), digits);
        assert!(!format!("{secret:?}").contains(&digits));
    }
}
