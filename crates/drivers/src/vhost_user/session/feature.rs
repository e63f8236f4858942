//! Features of the device, as masks (virtio 1.3 5.1.3 and 6; vhost-user.rst for bits 26 and 30).

/// Checksums of what the guest sends may be open.
pub const CSUM: u64 = 1 << 0;
/// Checksums of what the guest receives may be open.
pub const GUEST_CSUM: u64 = 1 << 1;
/// The device tells its MTU.
pub const MTU: u64 = 1 << 3;
/// The device tells its MAC address.
pub const MAC: u64 = 1 << 5;
/// The guest receives segmentation frames of TCP over IPv4.
pub const GUEST_TSO4: u64 = 1 << 7;
/// The guest receives segmentation frames of TCP over IPv6.
pub const GUEST_TSO6: u64 = 1 << 8;
/// The guest receives segmentation frames with ECN.
pub const GUEST_ECN: u64 = 1 << 9;
/// The guest sends segmentation frames of TCP over IPv4.
pub const HOST_TSO4: u64 = 1 << 11;
/// The guest sends segmentation frames of TCP over IPv6.
pub const HOST_TSO6: u64 = 1 << 12;
/// The guest sends segmentation frames with ECN.
pub const HOST_ECN: u64 = 1 << 13;
/// A frame may take several chains of a receive ring.
pub const MRG_RXBUF: u64 = 1 << 15;
/// The device tells the state of its link.
pub const STATUS: u64 = 1 << 16;
/// The device has a control ring, which the front end serves.
pub const CTRL_VQ: u64 = 1 << 17;
/// The guest announces itself when it is told to.
pub const GUEST_ANNOUNCE: u64 = 1 << 21;
/// The device has several pairs of rings.
pub const MQ: u64 = 1 << 22;
/// Writes to guest memory are logged.
pub const LOG_ALL: u64 = 1 << 26;
/// The header may lie anywhere in a chain.
pub const ANY_LAYOUT: u64 = 1 << 27;
/// Descriptors may point to tables of descriptors.
pub const INDIRECT_DESC: u64 = 1 << 28;
/// Notifications are asked for by index.
pub const EVENT_IDX: u64 = 1 << 29;
/// The protocol has features of its own, and rings start disabled.
pub const PROTOCOL_FEATURES: u64 = 1 << 30;
/// Virtio 1.0 and later.
pub const VERSION_1: u64 = 1 << 32;
/// Rings have the packed layout.
pub const RING_PACKED: u64 = 1 << 34;
/// Buffers are used in the order in which they were made available.
pub const IN_ORDER: u64 = 1 << 35;
/// The driver may reset one ring.
pub const RING_RESET: u64 = 1 << 40;
/// The guest receives segmentation frames of UDP over IPv4.
pub const GUEST_USO4: u64 = 1 << 54;
/// The guest receives segmentation frames of UDP over IPv6.
pub const GUEST_USO6: u64 = 1 << 55;
/// The guest sends segmentation frames of UDP.
pub const HOST_USO: u64 = 1 << 56;

/// Everything that is about frames which are not finished.
pub const OFFLOADS: u64 = CSUM
    | GUEST_CSUM
    | GUEST_TSO4
    | GUEST_TSO6
    | GUEST_ECN
    | HOST_TSO4
    | HOST_TSO6
    | HOST_ECN
    | GUEST_USO4
    | GUEST_USO6
    | HOST_USO;

/// Everything that is always offered.
pub(super) const ALWAYS: u64 = MTU
    | MRG_RXBUF
    | CTRL_VQ
    | GUEST_ANNOUNCE
    | MQ
    | LOG_ALL
    | ANY_LAYOUT
    | INDIRECT_DESC
    | EVENT_IDX
    | PROTOCOL_FEATURES
    | VERSION_1
    | IN_ORDER
    | RING_RESET;
