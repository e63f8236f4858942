//! Hashing with a secret key, so that a guest cannot choose what collides.

use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// Makes SipHash-1-3 hashers with a random key that the caller gives.
#[derive(Debug, Clone, Copy)]
pub struct Keyed(pub [u64; 2]);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    #[inline]
    fn build_hasher(&self) -> SipHasher13 {
        let Keyed([one, other]) = *self;
        SipHasher13::new_with_keys(one, other)
    }
}
