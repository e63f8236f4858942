//! The way out by the host's kernel, which is not there on this system. The configuration's check says so.

use std::sync::Arc;

use vmlan_drivers::Endpoint;
use vmlan_nat::reach::Egress;

use super::Rooms;
use super::forwards::Inward;

/// This system does not have the mode.
pub(super) const EXISTS: bool = false;

/// A way out that there is none of.
pub(super) enum Kernel {}

impl Kernel {
    pub(super) fn open(_network: &str, _rooms: Rooms, _mtu: usize) -> Result<Kernel, String> {
        Err("mode `kernel` needs Linux; write `mode = \"user\"`".to_owned())
    }

    pub(super) fn device(&self) -> &str {
        match *self {}
    }

    pub(super) fn endpoint(&self) -> Arc<dyn Endpoint> {
        match *self {}
    }

    pub(super) async fn update(&self, _egress: &Egress, _inward: Vec<Inward>) -> Result<(), String> {
        match *self {}
    }

    pub(super) async fn integrate(&self, _wanted: bool) -> Result<(), String> {
        match *self {}
    }

    pub(super) async fn look(&self) -> Result<Option<Vec<String>>, String> {
        match *self {}
    }
}
