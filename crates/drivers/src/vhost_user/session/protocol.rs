//! Features of the protocol, as masks (vhost-user.rst).

/// Several pairs of rings.
pub const MQ: u64 = 1 << 0;
/// The log comes as a file.
pub const LOG_SHMFD: u64 = 1 << 1;
/// The back end announces the guest after a migration.
pub const RARP: u64 = 1 << 2;
/// Any request can be answered.
pub const REPLY_ACK: u64 = 1 << 3;
/// The front end tells the MTU.
pub const NET_MTU: u64 = 1 << 4;
/// The back end has the configuration space.
pub const CONFIG: u64 = 1 << 9;
/// The device can be reset.
pub const RESET_DEVICE: u64 = 1 << 13;
/// Memory is added and removed region by region.
pub const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;

/// Everything that is always offered.
pub(super) const ALWAYS: u64 =
    MQ | LOG_SHMFD | RARP | REPLY_ACK | NET_MTU | RESET_DEVICE | CONFIGURE_MEM_SLOTS;
