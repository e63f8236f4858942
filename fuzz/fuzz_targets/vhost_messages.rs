//! Whatever a front end says, in whatever order: nothing panics, a session that ends is as it was, and one that goes on
//! stays inside its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmlan_drivers::vhost_user::message::{HEADER, Header, LONGEST, Request};
use vmlan_drivers::vhost_user::session::{Action, ConfigOffer, LONGEST_RING, Offer, SLOTS, Session};
use vmlan_frame::MacAddr;

fuzz_target!(|octets: &[u8]| {
    let [pairs, config, octets @ ..] = octets else { return };
    let config = [ConfigOffer::Auto, ConfigOffer::On, ConfigOffer::Off][usize::from(config % 3)];
    let mac = Some(MacAddr([2, 0, 0, 0, 0, 7]));
    let offer =
        Offer { pairs: (*pairs).into(), packed: true, offloads: pairs % 2 == 0, config, mac, mtu: 1500 };
    let mut session = Session::new(offer);
    let count = session.rings().len();
    assert!((4..=256).contains(&count));
    let mut rest = octets;
    // A stream of messages, each behind the number of its descriptors.
    while let Some((descriptors, message)) = rest.split_first() {
        let descriptors = usize::from(*descriptors);
        let Some((header, behind)) = message.split_first_chunk::<HEADER>() else { return };
        let Ok(header) = Header::parse(header) else { return };
        assert!(header.size <= LONGEST);
        let Some((body, behind)) = behind.split_at_checked(header.size) else { return };
        rest = behind;
        let Ok(request) = Request::parse(header, body, descriptors) else { return };
        let before = session.clone();
        let Ok(outcome) = session.request(&request, header.needs_reply) else {
            // The connection would be closed; the rest is tried all the same.
            assert_eq!(session, before);
            continue;
        };
        check(&session, &before, &outcome.action, descriptors);
        if let Some(octets) = session.emit(header.kind, &outcome.answer) {
            assert!(octets.len() <= HEADER + LONGEST);
        }
        assert_eq!(session.rings().len(), count);
    }
});

fn check(session: &Session, before: &Session, action: &Action, descriptors: usize) {
    let count = session.rings().len();
    match action {
        Action::Start(index) | Action::Restart(index) => {
            let ring = session.rings()[*index];
            assert!(ring.started && ring.num > 0 && ring.addresses.is_some());
        }
        Action::Stop(index) => {
            assert!(before.rings()[*index].started && !session.rings()[*index].started);
        }
        Action::SetCall(index) | Action::SetError(index) => assert!(*index < count),
        Action::Enable(rings) => assert!(rings.end <= count),
        Action::Memory { kept, mapped } => {
            assert_eq!(kept.len() + mapped.len(), session.regions().len());
            assert!(kept.iter().all(|&place| place < before.regions().len()));
            // Each has its file.
            assert!(mapped.len() <= descriptors);
        }
        Action::MapLog(log) => {
            let end = session.regions().iter().map(|region| region.end().expect("it was checked")).max();
            assert!(log.size.saturating_mul(8 * 4096) >= end.unwrap_or(0) && descriptors == 1);
        }
        Action::Reset(rings) => {
            assert!(rings.iter().all(|&index| before.rings()[index].started));
            assert!(session.rings().iter().all(|ring| !ring.started && !ring.enabled));
        }
        Action::Announce(mac) => assert!(mac.is_station()),
        Action::Nothing | Action::SwitchLog => {}
    }
    assert!(session.regions().len() <= SLOTS);
    let regions = session.regions();
    if regions.len() <= 16 {
        for (place, region) in regions.iter().enumerate() {
            assert!(regions[..place].iter().all(|other| !region.overlaps(other)));
        }
    }
    assert!(session.rings().iter().all(|ring| ring.num <= LONGEST_RING));
    assert!(session.control_ring().is_none_or(|index| index < count));
    assert!(!session.waits_for().is_empty());
}
