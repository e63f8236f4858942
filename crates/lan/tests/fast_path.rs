//! A fast way's copy of the FDB, while two workers learn and move addresses and control lists them.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use support::{mac, network, octets};
use vmlan_frame::{Batch, Context, Counters, Instant, MacAddr, Pool, PoolSizes, VlanId};
use vmlan_lan::{Egress, FastEntry, FastPath, FastPort, Forwarder, Network, PortConfig, PortId, PortPolicy};

const ROUNDS: u64 = 20_000;

type Key = (MacAddr, Option<VlanId>);

#[derive(Default)]
struct Copy {
    held: Mutex<HashMap<Key, PortId>>,
    withdrawn: AtomicUsize,
}

impl FastPath for Copy {
    fn withdraw(&self, mac: MacAddr, vlan: Option<VlanId>, port: PortId) {
        let held = self.held.lock().unwrap().remove(&(mac, vlan));
        self.withdrawn.fetch_add(usize::from(held.is_some()), Ordering::Relaxed);
        assert!(held.is_none_or(|held| held == port), "{mac} is at {held:?} and {port:?}");
    }

    fn changed(&self) {}

    fn ports(&self, _: &[FastPort]) {}
}

impl Copy {
    /// Puts in what is listed, and finds that what was there before is listed too, and at the same port.
    fn follow(&self, network: &Network) -> usize {
        let (mut before, mut count) = (None, 0);
        network.list_fast(&mut |FastEntry { mac, vlan, port, .. }: FastEntry| {
            let mut held = self.held.lock().unwrap();
            let before = before.get_or_insert_with(|| held.clone());
            before.remove(&(mac, vlan));
            let former = held.insert((mac, vlan), port);
            assert!(former.is_none_or(|former| former == port), "{mac} was at {former:?}, is at {port:?}");
            count += 1;
        });
        assert_eq!(before.unwrap_or_default(), HashMap::new(), "entries that are listed no more");
        count
    }
}

/// Sends from one port, with sources that the other worker's port sends from too.
fn work(network: &Arc<Network>, worker: usize, port: PortId) {
    let pool = Pool::new(PoolSizes { small: 16, large: 0, bulk: 0 });
    let mut forwarder = Forwarder::new(Arc::clone(network));
    let mut egress = Egress::new(64);
    let mut batch = Batch::new();
    for round in 0..ROUNDS {
        let source = mac((round * (7 + worker as u64) % 100) as u8 + 10);
        batch.push(pool.copy(&octets(mac(1), source)).unwrap());
        let cx = Context { worker, now: Instant::from_secs(round / 10), pool: &pool };
        assert!(forwarder.forward(&cx, port, &mut batch, &mut egress));
        egress.drain(|_, copies| copies.clear());
    }
}

#[test]
fn the_copy_follows_two_workers() {
    let network = network(64);
    let ports = [(); 2].map(|()| {
        let id = network.add_port(PortConfig::new("guest", Arc::new(Counters::new(2)))).unwrap();
        network.set_active(id, true).unwrap();
        network.set_fast_port(id, true).unwrap();
        id
    });
    let copy = Arc::new(Copy::default());
    network.set_fast_path(Some(Arc::clone(&copy) as Arc<dyn FastPath>));
    let running = AtomicUsize::new(ports.len());
    let mut listed = 0;
    thread::scope(|scope| {
        for (worker, port) in ports.into_iter().enumerate() {
            let (network, running) = (&network, &running);
            scope.spawn(move || {
                work(network, worker, port);
                running.fetch_sub(1, Ordering::Release);
            });
        }
        let mut round = 0;
        while running.load(Ordering::Acquire) > 0 {
            round += 1;
            listed += copy.follow(&network);
            match round % 50 {
                0 => network.flush(),
                10 => network.age(Instant::from_secs(round / 10)),
                20 => network.set_fast_port(ports[1], round % 100 == 20).unwrap(),
                30 => _ = network.add_static(mac(20), None, ports[0]),
                40 => _ = network.remove_static(mac(20), None),
                45 => {
                    let policy = PortPolicy { quota: 20 + round as usize % 20, ..PortPolicy::default() };
                    network.update_port(ports[1], policy).unwrap();
                }
                _ => {}
            }
        }
    });
    network.set_fast_port(ports[1], true).unwrap();
    copy.follow(&network);
    let entries = network.fdb(Instant::ZERO);
    let held = copy.held.lock().unwrap();
    assert_eq!(held.len(), entries.len());
    assert!(entries.iter().all(|entry| {
        let key = |vlan| held.get(&(entry.mac, vlan));
        key(Some(VlanId::DEFAULT)).or(key(None)) == Some(&entry.port)
    }));
    assert!(listed > 0 && copy.withdrawn.load(Ordering::Relaxed) > 0);
}
