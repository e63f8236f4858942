//! The address resolver: whatever is received and sent, it stays within its bounds, claims nothing but its own
//! addresses, and every packet that waited is accounted for.
#![no_main]

use core::net::IpAddr;
use core::time::Duration;

use libfuzzer_sys::fuzz_target;
use vmlan_frame::{Instant, MacAddr, Pool, PoolSizes};
use vmlan_link::resolver::{Options, Resolution, Resolver};

const MAC: MacAddr = MacAddr([6, 0, 0, 0, 0, 9]);

fuzz_target!(|input: (bool, Vec<(u8, u8, Vec<u8>)>)| {
    let (detect_duplicates, steps) = input;
    let options = Options {
        neighbours: 8,
        waiting_each: 2,
        waiting: 8,
        waiting_octets: 4096,
        requests_per_second: 16,
        detect_duplicates,
        seed: 1,
    };
    let mut resolver = Resolver::new(MAC, options);
    let pool = Pool::new(PoolSizes { small: 64, large: 2, bulk: 0 });
    let mut now = Instant::from_nanos(1 << 40);
    let own: [IpAddr; 2] = [[10, 0, 0, 9].into(), "fd00::9".parse().unwrap()];
    resolver.add_address(own[0], 24, now).unwrap();
    resolver.add_address(own[1], 64, now).unwrap();
    resolver.set_gateway([10, 0, 0, 1].into());
    let mut waited = 0;
    for (what, which, octets) in steps.iter().take(256) {
        now = now + Duration::from_millis(u64::from(what >> 2) * 100);
        match what & 3 {
            0 | 1 => {
                if let Some(frame) = pool.copy(octets) {
                    resolver.handle(&frame, now);
                }
            }
            2 => {
                let to: IpAddr = match which & 1 {
                    0 => [10, 0, which >> 7, *which].into(),
                    _ => [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(*which)].into(),
                };
                let packet =
                    [&[if to.is_ipv4() { 0x45 } else { 0x60 }], &octets[..octets.len().min(1500)]].concat();
                let packet = pool.copy(&packet).unwrap();
                if resolver.send(to, &packet, now) == Resolution::Waiting {
                    waited += 1;
                }
            }
            _ => resolver.confirm([10, 0, 0, *which].into(), now),
        }
        while let Some(frame) = resolver.poll_transmit(now, &pool) {
            assert!(frame.source() == Some(MAC) && frame.len() > 14);
        }
        let (packets, held) = resolver.waiting();
        assert!(packets <= 8 && held <= 4096 && resolver.neighbours().count() <= 8);
        let sum = resolver.statistics();
        let ended = sum.sent + sum.unanswered + sum.replaced + sum.displaced + sum.no_buffer;
        assert_eq!(ended + packets as u64, waited);
        while resolver.poll_event().is_some() {}
        assert!(resolver.poll_timeout().is_none_or(|at| at > now));
    }
    assert_eq!(pool.out(), 0);
});
