//! TCP flows between a made-up host and made-up guests, with a made-up clock.

mod close;
mod fake;
mod handshake;
mod inward;
mod limits;
mod loss;
mod outward;
mod peer;
mod places;
mod property;
mod rate;
mod timers;
mod world;
