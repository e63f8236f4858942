//! Two workers and the control side on one network at the same time.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use support::{mac, network, octets};
use vmlan_frame::{
    Batch, Context, Counters, Direction, DropReason, Instant, MacAddr, Pool, PoolSizes, Tally,
};
use vmlan_lan::{Egress, Forwarder, Network, PortConfig, PortId, PortPolicy};

const ROUNDS: u64 = 2000;

type Port = (PortId, Arc<Counters>);

fn port(network: &Network, macs: &[MacAddr]) -> Port {
    let counters = Arc::new(Counters::new(2));
    let config = PortConfig { macs: macs.to_vec(), ..PortConfig::new("guest", Arc::clone(&counters)) };
    let id = network.add_port(config).unwrap();
    network.set_active(id, true).unwrap();
    (id, counters)
}

/// Sends from one port, with many sources: to a set address, to addresses that the other worker's port sends from, and
/// to all. Returns how many copies came out.
fn work(network: &Arc<Network>, worker: usize, (id, counters): &Port) -> u64 {
    let pool = Pool::new(PoolSizes { small: 64, large: 0, bulk: 0 });
    let mut forwarder = Forwarder::new(Arc::clone(network));
    let mut egress = Egress::new(1000);
    let mut batch = Batch::new();
    let mut delivered = 0;
    for round in 0..ROUNDS {
        let [own, peer] = [worker, 1 - worker].map(|n| 0x0200_0000_0000 + 0x1_0000_0000 * n as u64);
        let source = MacAddr::from_u64(own + round % 300);
        let other = MacAddr::from_u64(peer + round % 300);
        let mut tally = Tally::default();
        for destination in [mac(1), other, MacAddr::BROADCAST] {
            let frame = pool.copy(&octets(destination, source)).unwrap();
            tally.add(&frame);
            batch.push(frame);
        }
        counters.received(worker, &tally);
        let cx = Context { worker, now: Instant::from_secs(round / 10), pool: &pool };
        assert!(forwarder.forward(&cx, *id, &mut batch, &mut egress));
        egress.drain(|to, copies| {
            assert_ne!(to, *id);
            delivered += copies.drain().len() as u64;
        });
    }
    assert_eq!(pool.out(), 0);
    delivered
}

#[test]
fn two_workers_and_control() {
    let network = network(256);
    let ports = [port(&network, &[]), port(&network, &[])];
    let (quiet, quiet_counters) = port(&network, &[mac(1)]);
    let running = AtomicUsize::new(ports.len());
    let delivered: u64 = thread::scope(|scope| {
        let workers = ports.each_ref().map(|port| (port, &network));
        let handles = Vec::from_iter(workers.into_iter().enumerate().map(|(worker, (port, network))| {
            let running = &running;
            scope.spawn(move || {
                let delivered = work(network, worker, port);
                running.fetch_sub(1, Ordering::Release);
                delivered
            })
        }));
        let mut now = 0;
        while running.load(Ordering::Acquire) > 0 {
            now += 1;
            network.age(Instant::from_secs(now));
            let quota = 50 + (now % 3) as usize;
            let policy = PortPolicy { macs: vec![mac(1)], quota, ..PortPolicy::default() };
            network.update_port(quiet, policy).unwrap();
            assert!(network.fdb(Instant::from_secs(now)).len() <= network.fdb_capacity());
            network.flush();
            network.events();
        }
        handles.into_iter().map(|handle| handle.join().unwrap()).sum()
    });
    let counters = ports.each_ref().map(|(_, counters)| counters.snapshot());
    assert_eq!(counters.iter().map(|counters| counters.copies).sum::<u64>(), delivered);
    for counters in counters {
        // Known or unknown, each address is behind another port than the sender's.
        assert_eq!(counters.rx_frames, 3 * ROUNDS);
        assert_eq!(counters.dropped_on(Direction::Ingress), 0);
    }
    assert_eq!(quiet_counters.snapshot().dropped(DropReason::QueueFull), 0);
}

#[test]
fn a_port_that_comes_and_goes_while_others_work() {
    let network = network(256);
    let ports = [port(&network, &[]), port(&network, &[])];
    let running = AtomicUsize::new(ports.len());
    thread::scope(|scope| {
        for (worker, port) in ports.iter().enumerate() {
            let (network, running) = (&network, &running);
            scope.spawn(move || {
                work(network, worker, port);
                running.fetch_sub(1, Ordering::Release);
            });
        }
        while running.load(Ordering::Acquire) > 0 {
            let (id, _) = port(&network, &[mac(1)]);
            assert!(network.remove_port(id));
        }
    });
    let known = network.fdb(Instant::from_secs(ROUNDS / 10));
    assert!(known.iter().all(|entry| ports.iter().any(|(id, _)| *id == entry.port)));
}
