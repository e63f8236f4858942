//! stand-in
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vmlan_nat::datagrams::*;
use vmlan_sys::Poller;
pub(super) const DATAGRAM: u64 = 0b01 << 62;
pub struct HostDatagrams;
impl HostDatagrams {
    pub fn new(_: Arc<Poller>) -> HostDatagrams {
        HostDatagrams
    }
    pub fn adopt(&mut self, _: u32, _: OwnedFd, _: IpAddr) -> std::io::Result<()> {
        Err(std::io::Error::other(""))
    }
}
impl DatagramSockets for HostDatagrams {
    fn open(&mut self, _: u32, _: SocketKind, _: Family) -> Result<(), OpenError> {
        Err(OpenError::Unavailable)
    }
    fn send(&mut self, _: u32, _: SocketAddr, _: &[u8], _: Control) -> Result<(), SendError> {
        Err(SendError::Other)
    }
    fn receive(&mut self, _: u32, _: &mut [u8]) -> Option<Received> {
        None
    }
    fn error(&mut self, _: u32, _: &mut [u8]) -> Option<QueuedError> {
        None
    }
    fn close(&mut self, _: u32) {}
}
