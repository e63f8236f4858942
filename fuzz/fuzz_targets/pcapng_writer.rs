//! Captures: whatever frames pass, the file reads back, and every frame is in it as it was on the wire.
#![no_main]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use libfuzzer_sys::fuzz_target;
use pcap_file::pcapng::{Block, PcapNgReader};
use vmlan_daemon::capture::{Capture, Options};
use vmlan_daemon::handle::PortLink;
use vmlan_frame::{Batch, Context, Frame, Instant, Pool, PoolSizes, VlanTag};
use vmlan_link::{LinkOptions, Registry, Transmit};

#[derive(Clone, Default)]
struct File(Arc<Mutex<Vec<u8>>>);

impl Write for File {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Sink;

impl Transmit for Sink {
    fn transmit(&mut self, batch: &mut Batch) {
        batch.clear();
    }
}

fuzz_target!(|input: (u8, u16, Vec<(u8, Vec<u8>)>)| {
    let (names, snaplen, frames) = input;
    let registry = Registry::new(1, || std::time::SystemTime::UNIX_EPOCH);
    let link = registry.acquire(LinkOptions::ethernet("port").unwrap()).unwrap();
    link.attach(Arc::new(()), None).unwrap();
    let _bridge = link.attach_bridge().unwrap();
    let file = File::default();
    let snaplen = u32::from(snaplen.max(1));
    let mut capture = Capture::start(file.clone(), Options { snaplen, ..Options::default() }).unwrap();
    let name = "p".repeat(usize::from(names));
    // Both ways, for frames pass both ways below.
    capture.attach_both(&PortLink { network: "lab".into(), port: name, link: link.clone() }).unwrap();

    let pool = Pool::new(PoolSizes { small: 8, large: 2, bulk: 0 });
    let cx = Context { worker: 0, now: Instant::from_nanos(7), pool: &pool };
    let mut expected = Vec::new();
    for (how, octets) in frames.iter().take(64).filter(|(_, octets)| octets.len() <= 4096) {
        let Some(mut frame) = pool.copy(octets) else { continue };
        let mut wire = octets.clone();
        if how & 2 != 0 && octets.len() >= 16 {
            // The tag stands in the file where it does on the wire.
            let mut tagged = [&octets[..12], &[0x81, 0], &octets[12..]].concat();
            wire = tagged.clone();
            let (start, tag) = VlanTag::take(&mut tagged);
            frame = pool.copy(&tagged[start..]).unwrap();
            frame.meta.tag = tag;
        }
        let mut batch: Batch = [frame].into_iter().collect::<Vec<Frame>>().into_iter().collect();
        match how & 1 {
            0 => link.input(&cx, &mut batch),
            _ => link.output(&cx, &mut batch, &mut Sink).unwrap(),
        }
        expected.push(wire);
    }
    let report = capture.stop();
    assert!(report.error.is_none() && report.lost == 0, "{report:?}");

    let octets = std::mem::take(&mut *file.0.lock().unwrap());
    let mut reader = PcapNgReader::new(&octets[..]).unwrap();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.unwrap() {
            packets.push((packet.original_len as usize, packet.data.to_vec()));
        }
    }
    let kept = |wire: &Vec<u8>| (wire.len(), wire[..wire.len().min(snaplen as usize)].to_vec());
    assert_eq!(packets, expected.iter().map(kept).collect::<Vec<_>>());
    assert_eq!(report.frames as usize, packets.len());
});
