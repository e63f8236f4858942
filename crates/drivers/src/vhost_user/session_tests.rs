use proptest::prelude::*;

use super::super::message::{HEADER, Header};
use super::*;

const PAIRS: u16 = 8;

const OFFER: Offer = Offer {
    pairs: PAIRS,
    packed: true,
    offloads: true,
    config: ConfigOffer::Auto,
    mac: Some(MacAddr([2, 0, 0, 0, 0, 7])),
    mtu: 1500,
};

/// Features as a front end of today accepts them.
const ACCEPTED: u64 = feature::VERSION_1 | feature::PROTOCOL_FEATURES | feature::MRG_RXBUF;

const REGION: RegionDescription = RegionDescription { guest: 0, size: 1 << 20, user: 0x7000_0000, offset: 0 };

fn addresses(index: u32) -> Addresses {
    let user = REGION.user + u64::from(index) * 0x1_0000;
    Addresses { descriptors: user, driver: user + 0x4000, device: user + 0x8000, log: None }
}

fn session() -> Session {
    Session::new(OFFER)
}

/// Takes a request that is in order.
fn take(session: &mut Session, request: Request) -> Outcome {
    session.request(&request, false).unwrap()
}

fn number(session: &mut Session, request: Request) -> u64 {
    match take(session, request).answer {
        Answer::Number(number) => number,
        other => panic!("no number: {other:?}"),
    }
}

/// Takes what sets up a ring, in QEMU's order, and returns what follows from the kick.
fn start(session: &mut Session, index: u32) -> Action {
    take(session, Request::SetVringNum { index, num: 256 });
    take(session, Request::SetVringBase { index, base: 0 });
    take(session, Request::SetVringAddr { index, addresses: addresses(index) });
    take(session, Request::SetVringKick { index, has_descriptor: true }).action
}

/// A session with memory and one pair of rings that are started and enabled.
fn running() -> Session {
    let mut session = session();
    take(&mut session, Request::SetFeatures(ACCEPTED));
    take(&mut session, Request::SetProtocolFeatures(protocol::REPLY_ACK));
    take(&mut session, Request::AddMemReg(REGION));
    for index in [0, 1] {
        take(&mut session, Request::SetVringEnable { index, enabled: true });
        assert_eq!(start(&mut session, index), Action::Start(index as usize));
    }
    session
}

fn is_up(session: &Session, index: usize) -> bool {
    session.rings()[index].started && session.is_enabled(index)
}

#[test]
fn case_1_the_order_of_qemu_brings_the_rings_up() {
    let mut session = session();
    let offered = number(&mut session, Request::GetFeatures);
    assert_eq!(offered & ACCEPTED, ACCEPTED);
    let protocol = number(&mut session, Request::GetProtocolFeatures);
    take(&mut session, Request::SetProtocolFeatures(protocol));
    assert_eq!(number(&mut session, Request::GetQueueNum), 18);
    assert_eq!(number(&mut session, Request::GetMaxMemSlots), 509);
    take(&mut session, Request::SetOwner);
    assert_eq!(number(&mut session, Request::GetFeatures), offered);
    for index in [0, 1] {
        let call = Request::SetVringCall { index, has_descriptor: true };
        assert_eq!(take(&mut session, call).action, Action::SetCall(index as usize));
        let error = Request::SetVringErr { index, has_descriptor: true };
        assert_eq!(take(&mut session, error).action, Action::SetError(index as usize));
    }
    for (index, enabled) in [(0, false), (1, false), (0, true), (1, true), (0, true), (1, true)] {
        assert_eq!(take(&mut session, Request::SetVringEnable { index, enabled }).action, Action::Nothing);
    }
    let mtu = session.request(&Request::NetSetMtu(1500), true).unwrap();
    assert_eq!(mtu.answer, Answer::Number(0));
    take(&mut session, Request::SetFeatures(ACCEPTED));
    let mapped = vec![REGION];
    assert_eq!(
        take(&mut session, Request::AddMemReg(REGION)).action,
        Action::Memory { kept: vec![], mapped }
    );
    for index in [0, 1] {
        assert!(!is_up(&session, 0) || !is_up(&session, 1));
        assert_eq!(start(&mut session, index), Action::Start(index as usize));
    }
    assert!(is_up(&session, 0) && is_up(&session, 1));
}

#[test]
fn case_2_rings_are_enabled_before_features_are_accepted() {
    let mut session = session();
    take(&mut session, Request::SetVringEnable { index: 0, enabled: true });
    take(&mut session, Request::SetFeatures(ACCEPTED));
    assert!(session.is_enabled(0) && !session.is_enabled(1));
}

#[test]
fn case_3_without_features_of_the_protocol_every_ring_is_enabled() {
    let mut session = session();
    take(&mut session, Request::SetFeatures(ACCEPTED & !feature::PROTOCOL_FEATURES));
    assert!((0..session.rings().len()).all(|index| session.is_enabled(index)));
}

#[test]
fn case_8_a_base_is_kept_as_it_was_set() {
    let mut session = session();
    for base in [0x8000, 0x0005_8003] {
        take(&mut session, Request::SetVringBase { index: 1, base });
        assert_eq!(session.rings()[1].base, base);
    }
}

#[test]
fn case_9_a_stopped_ring_tells_where_it_stopped() {
    let mut session = running();
    let outcome = take(&mut session, Request::GetVringBase { index: 1 });
    assert_eq!(outcome, Outcome { action: Action::Stop(1), answer: Answer::Base(1) });
    session.stopped(1, 0x0005_0005);
    let octets = session.emit(Kind::GetVringBase, &outcome.answer).unwrap();
    assert_eq!(octets[HEADER..], [1u32, 0x0005_0005].map(u32::to_ne_bytes).concat());
    assert!(!session.rings()[1].started && session.is_enabled(1));
}

#[test]
fn case_10_a_ring_that_is_stopped_twice_answers_the_same() {
    let mut session = running();
    take(&mut session, Request::GetVringBase { index: 0 });
    session.stopped(0, 77);
    let again = take(&mut session, Request::GetVringBase { index: 0 });
    assert_eq!(again, Outcome { action: Action::Nothing, answer: Answer::Base(0) });
    assert_eq!(session.rings()[0].base, 77);
}

#[test]
fn case_12_one_ring_is_reset_and_the_others_never_stop() {
    let mut session = running();
    take(&mut session, Request::GetVringBase { index: 1 });
    assert!(is_up(&session, 0) && !is_up(&session, 1));
    assert_eq!(start(&mut session, 1), Action::Start(1));
    assert!(is_up(&session, 0) && is_up(&session, 1));
}

#[test]
fn case_15_regions_that_overlap_are_refused() {
    for other in [
        RegionDescription { guest: (1 << 20) - 1, user: 0x1000_0000, ..REGION },
        RegionDescription { guest: 1 << 20, user: REGION.user + (1 << 20) - 1, ..REGION },
        RegionDescription { offset: REGION.offset + 4096, ..REGION },
    ] {
        let mut session = running();
        assert!(session.request(&Request::AddMemReg(other), false).is_err(), "{other:?}");
        assert!(session.request(&Request::SetMemTable(vec![REGION, other]), false).is_err(), "{other:?}");
        assert!(session.request(&Request::SetMemTable(vec![REGION, REGION]), false).is_err());
        assert_eq!(session.regions(), [REGION]);
    }
}

#[test]
fn case_44_each_pair_of_queues_may_say_what_the_memory_is() {
    let other = RegionDescription { guest: 1 << 32, user: 1 << 40, ..REGION };
    let mut session = running();
    take(&mut session, Request::AddMemReg(other));
    for place in [1, 0, 0] {
        let added = take(&mut session, Request::AddMemReg(REGION)).action;
        assert_eq!(added, Action::Memory { kept: vec![place], mapped: vec![REGION] });
        assert_eq!(session.regions(), [other, REGION]);
    }
    let removal = take(&mut session, Request::RemMemReg(other)).action;
    assert_eq!(removal, Action::Memory { kept: vec![1], mapped: vec![] });
    for _ in 0..3 {
        assert_eq!(take(&mut session, Request::RemMemReg(other)).action, Action::Nothing);
        assert_eq!(session.regions(), [REGION]);
    }
}

#[test]
fn case_16_regions_that_end_beyond_the_last_address_are_refused() {
    let size = 1 << 20;
    for region in [
        RegionDescription { guest: u64::MAX - size + 1, ..REGION },
        RegionDescription { user: u64::MAX - size + 1, ..REGION },
        RegionDescription { offset: u64::MAX - size + 1, ..REGION },
        RegionDescription { size: 0, ..REGION },
        RegionDescription { size: u64::MAX, ..REGION },
    ] {
        assert!(session().request(&Request::AddMemReg(region), false).is_err(), "{region:?}");
    }
}

#[test]
fn memory_is_replaced_added_to_and_taken_from() {
    let region = |at: u64| RegionDescription { guest: at << 24, user: at << 28, ..REGION };
    let mut session = session();
    take(&mut session, Request::SetMemTable(vec![region(1), region(2)]));
    let added = take(&mut session, Request::AddMemReg(region(3))).action;
    assert_eq!(added, Action::Memory { kept: vec![0, 1], mapped: vec![region(3)] });
    // The offset in the file is left out.
    let removed = RegionDescription { offset: 99, ..region(2) };
    let removal = take(&mut session, Request::RemMemReg(removed)).action;
    assert_eq!(removal, Action::Memory { kept: vec![0, 2], mapped: vec![] });
    assert_eq!(session.regions(), [region(1), region(3)]);
    let replaced = take(&mut session, Request::SetMemTable(vec![region(1)])).action;
    assert_eq!(replaced, Action::Memory { kept: vec![], mapped: vec![region(1)] });
}

#[test]
fn memory_has_so_many_regions_and_no_more() {
    let region =
        |at: usize| RegionDescription { guest: (at as u64) << 20, user: (at as u64) << 20, ..REGION };
    let mut session = session();
    for at in 0..SLOTS {
        take(&mut session, Request::AddMemReg(region(at)));
    }
    assert!(session.request(&Request::AddMemReg(region(SLOTS)), false).is_err());
    take(&mut session, Request::RemMemReg(region(7)));
    take(&mut session, Request::AddMemReg(region(SLOTS)));
}

#[test]
fn case_28_features_change_while_rings_run_by_the_log_alone() {
    let mut session = running();
    assert_eq!(take(&mut session, Request::SetFeatures(ACCEPTED)).action, Action::Nothing);
    let logged = ACCEPTED | feature::LOG_ALL;
    assert_eq!(take(&mut session, Request::SetFeatures(logged)).action, Action::SwitchLog);
    assert_eq!(take(&mut session, Request::SetFeatures(ACCEPTED)).action, Action::SwitchLog);
    for features in [ACCEPTED & !feature::MRG_RXBUF, ACCEPTED | feature::RING_PACKED, 0] {
        assert!(session.request(&Request::SetFeatures(features), false).is_err());
    }
}

#[test]
fn case_37_and_41_requests_that_were_not_offered_end_the_session() {
    for request in [
        Request::SetVringNum { index: 255, num: 256 },
        Request::SetVringNum { index: 36, num: 256 },
        Request::SetVringBase { index: u32::MAX, base: 0 },
        Request::SetVringAddr { index: 36, addresses: addresses(0) },
        Request::SetVringKick { index: 255, has_descriptor: false },
        Request::SetVringCall { index: 255, has_descriptor: false },
        Request::SetVringErr { index: 255, has_descriptor: false },
        Request::SetVringEnable { index: 36, enabled: true },
        Request::GetVringBase { index: 36 },
        Request::SetVringNum { index: 0, num: 0 },
        Request::SetVringNum { index: 0, num: 32_769 },
        Request::SetVringNum { index: 0, num: 128 },
        // Neither its length nor its addresses are known.
        Request::SetVringKick { index: 2, has_descriptor: false },
        // IOMMU and RSS.
        Request::SetFeatures(ACCEPTED | 1 << 33),
        Request::SetFeatures(ACCEPTED | 1 << 60),
        // STATUS.
        Request::SetProtocolFeatures(1 << 16),
        Request::GetConfig { offset: 0, size: 12, flags: 0 },
        Request::SetConfig,
    ] {
        assert!(running().request(&request, false).is_err(), "{request:?}");
    }
    // SET_STATUS is in no table.
    let octets: [u8; HEADER] = [39u32, 1, 8].map(u32::to_ne_bytes).concat().try_into().unwrap();
    assert!(Header::parse(&octets).is_err());
}

#[test]
fn a_split_ring_has_a_power_of_two_and_a_packed_one_any_number() {
    let setup = |features| {
        let mut session = session();
        take(&mut session, Request::SetFeatures(features));
        take(&mut session, Request::SetVringNum { index: 0, num: 100 });
        take(&mut session, Request::SetVringAddr { index: 0, addresses: addresses(0) });
        session.request(&Request::SetVringKick { index: 0, has_descriptor: false }, false)
    };
    assert!(setup(ACCEPTED).is_err());
    assert_eq!(setup(ACCEPTED | feature::RING_PACKED).unwrap().action, Action::Start(0));
}

#[test]
fn case_40_a_log_that_is_one_octet_short_is_refused() {
    let mut session = running();
    take(&mut session, Request::SetFeatures(ACCEPTED | feature::LOG_ALL));
    let least = (1 << 20) / 32_768;
    let short = take(&mut session, Request::SetLogBase { size: least - 1, offset: 0 });
    assert_eq!((short.action, short.answer), (Action::Nothing, Answer::Log(None)));
    assert!(session.log().is_none() && session.complaint().unwrap().contains("log"));
    let log = LogPlace { size: least, offset: 0 };
    let enough = take(&mut session, Request::SetLogBase { size: least, offset: 0 });
    assert_eq!((enough.action, enough.answer), (Action::MapLog(log), Answer::Log(Some(log))));
    assert_eq!(session.log(), Some(log));
    for (size, offset) in [(LARGEST_LOG + 1, 0), (least, u64::MAX)] {
        let refused = take(&mut session, Request::SetLogBase { size, offset });
        assert_eq!(refused.answer, Answer::Log(None));
    }
    take(&mut session, Request::SetFeatures(ACCEPTED));
    assert_eq!(session.log(), None);
}

#[test]
fn case_42_the_guest_is_announced_while_rings_are_stopped() {
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    let mut session = session();
    assert_eq!(take(&mut session, Request::SendRarp(mac)).action, Action::Announce(mac));
    assert_eq!(take(&mut session, Request::SendRarp(MacAddr::BROADCAST)).action, Action::Nothing);
}

#[test]
fn case_43_an_mtu_above_that_of_the_network_is_refused() {
    let mut session = session();
    take(&mut session, Request::SetProtocolFeatures(protocol::REPLY_ACK));
    for (mtu, answer) in [(1501, 1), (67, 1), (u64::MAX, 1), (68, 0), (1500, 0)] {
        let outcome = session.request(&Request::NetSetMtu(mtu), true).unwrap();
        assert_eq!(outcome.answer, Answer::Number(answer), "{mtu}");
        assert_eq!(session.complaint().is_some(), answer == 1);
    }
}

#[test]
fn case_44_more_queues_than_were_configured_are_served() {
    let mut session = session();
    assert_eq!(number(&mut session, Request::GetQueueNum), 18);
    take(&mut session, Request::SetFeatures(ACCEPTED | feature::MQ | feature::CTRL_VQ));
    // A front end that reads 18 as pairs has 36 rings.
    assert_eq!(start(&mut session, 35), Action::Start(35));
    assert_eq!(session.control_ring(), None);
}

#[test]
fn case_45_more_is_offered_than_with_less_in_the_configuration() {
    let offered = |offer: Offer| {
        let mut session = Session::new(offer);
        (number(&mut session, Request::GetFeatures), number(&mut session, Request::GetProtocolFeatures))
    };
    let (features, protocol) = offered(OFFER);
    for less in [Offer { packed: false, ..OFFER }, Offer { offloads: false, ..OFFER }] {
        let (fewer, same) = offered(less);
        assert!(fewer & !features == 0 && fewer != features && same == protocol);
    }
    let (more, with_config) = offered(Offer { config: ConfigOffer::On, ..OFFER });
    assert_eq!((more ^ features, with_config ^ protocol), (feature::MAC | feature::STATUS, protocol::CONFIG));
    // The numbers that front ends have seen: none may ever be taken away.
    assert_eq!((features, protocol), (0x01c0_010d_7c62_bb8b, 0x0000_a01f));
}

#[test]
fn case_46_a_control_ring_that_is_handed_over_is_known() {
    let mut session = session();
    take(&mut session, Request::SetOwner);
    let protocol = number(&mut session, Request::GetProtocolFeatures);
    take(&mut session, Request::SetProtocolFeatures(protocol));
    take(&mut session, Request::SetFeatures(ACCEPTED | feature::CTRL_VQ));
    assert_eq!(session.control_ring(), Some(2));
    take(&mut session, Request::SetFeatures(ACCEPTED | feature::CTRL_VQ | feature::MQ));
    assert_eq!(session.control_ring(), Some(16));
}

#[test]
fn the_configuration_space_is_offered_to_front_ends_that_own_first() {
    let mut first = session();
    take(&mut first, Request::SetOwner);
    let with = feature::MAC | feature::STATUS;
    assert_eq!(number(&mut first, Request::GetFeatures) & with, with);
    assert_ne!(number(&mut first, Request::GetProtocolFeatures) & protocol::CONFIG, 0);

    // QEMU owns between the first pair of queues and the second.
    let mut later = session();
    assert_eq!(number(&mut later, Request::GetProtocolFeatures) & protocol::CONFIG, 0);
    take(&mut later, Request::SetOwner);
    assert_eq!(number(&mut later, Request::GetProtocolFeatures) & protocol::CONFIG, 0);
    assert_eq!(number(&mut later, Request::GetFeatures) & with, 0);

    let mut never = Session::new(Offer { config: ConfigOffer::Off, ..OFFER });
    take(&mut never, Request::SetOwner);
    assert_eq!(number(&mut never, Request::GetProtocolFeatures) & protocol::CONFIG, 0);
}

#[test]
fn the_configuration_space_has_what_the_standard_says() {
    let mut session = Session::new(Offer { config: ConfigOffer::On, ..OFFER });
    let mut get =
        |offset, size| match take(&mut session, Request::GetConfig { offset, size, flags: 0 }).answer {
            Answer::Config { octets, .. } => octets,
            other => panic!("no configuration: {other:?}"),
        };
    let space = [2, 0, 0, 0, 0, 7, 1, 0, 8, 0, 0xdc, 5, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
    assert_eq!(get(0, 18).unwrap(), space);
    assert_eq!(get(6, 6).unwrap(), space[6..12]);
    assert_eq!(get(0, 256).unwrap().len(), 256);
    assert_eq!(get(255, 2), None);
    assert_eq!(get(u32::MAX, 1), None);
    assert_eq!(session.request(&Request::SetConfig, true).unwrap().answer, Answer::Nothing);
    take(&mut session, Request::SetProtocolFeatures(protocol::REPLY_ACK));
    assert_eq!(session.request(&Request::SetConfig, true).unwrap().answer, Answer::Number(1));
}

#[test]
fn answers_are_given_where_they_are_waited_for() {
    let mut session = session();
    let enable = Request::SetVringEnable { index: 0, enabled: true };
    assert_eq!(session.request(&enable, true).unwrap().answer, Answer::Nothing);
    let accept = Request::SetProtocolFeatures(protocol::REPLY_ACK);
    assert_eq!(session.request(&accept, true).unwrap().answer, Answer::Number(0));
    assert_eq!(session.request(&enable, true).unwrap().answer, Answer::Number(0));
    assert_eq!(session.request(&enable, false).unwrap().answer, Answer::Nothing);
    // One answer, whatever the flag.
    let base = Request::GetVringBase { index: 0 };
    assert_eq!(session.request(&base, true).unwrap().answer, Answer::Base(0));
}

#[test]
fn a_started_ring_is_told_of_changes() {
    let mut session = running();
    let toggled = |enabled| Request::SetVringEnable { index: 1, enabled };
    assert_eq!(take(&mut session, toggled(true)).action, Action::Nothing);
    assert_eq!(take(&mut session, toggled(false)).action, Action::Enable(1..2));
    let same = Request::SetVringAddr { index: 1, addresses: addresses(1) };
    assert_eq!(take(&mut session, same).action, Action::Nothing);
    let logged = Addresses { log: Some(0x8000), ..addresses(1) };
    let other = Request::SetVringAddr { index: 1, addresses: logged };
    assert_eq!(take(&mut session, other).action, Action::Restart(1));
}

#[test]
fn a_reset_stops_disables_and_keeps_memory_and_indices() {
    let mut session = running();
    take(&mut session, Request::SetVringBase { index: 5, base: 12 });
    assert_eq!(take(&mut session, Request::ResetDevice).action, Action::Reset(vec![0, 1]));
    session.stopped(0, 3);
    assert!(session.rings().iter().all(|ring| !ring.started && !ring.enabled));
    assert_eq!((session.features(), session.log()), (0, None));
    assert_eq!(session.regions(), [REGION]);
    assert_eq!((session.rings()[0].base, session.rings()[5].base), (3, 12));
    assert!((0..session.rings().len()).all(|index| !session.is_enabled(index)));
}

#[test]
fn reset_owner_disables_and_stops_nothing() {
    let mut session = running();
    assert_eq!(take(&mut session, Request::ResetOwner).action, Action::Enable(0..36));
    assert!(session.rings()[0].started && !session.is_enabled(0));
}

#[test]
fn a_session_says_what_it_waits_for() {
    let mut session = session();
    let mut said = vec![session.waits_for()];
    take(&mut session, Request::SetFeatures(ACCEPTED));
    said.push(session.waits_for());
    take(&mut session, Request::AddMemReg(REGION));
    said.push(session.waits_for());
    start(&mut session, 0);
    said.push(session.waits_for());
    take(&mut session, Request::SetVringEnable { index: 0, enabled: true });
    said.push(session.waits_for());
    said.dedup();
    assert_eq!(said.len(), 5, "{said:?}");
}

#[test]
fn the_most_pairs_have_indices_of_eight_bits() {
    for pairs in [Offer::MOST_PAIRS, u16::MAX] {
        assert_eq!(Offer { pairs, ..OFFER }.rings(), 256);
    }
}

/// A message whose numbers are often right.
fn messages() -> impl Strategy<Value = (u32, Vec<u8>, usize)> {
    let word = prop_oneof![
        4 => 0u64..40,
        2 => Just(1 << 32 | 256),
        1 => (0u32..64).prop_map(|bit| 1 << bit),
        1 => Just(ACCEPTED),
        1 => any::<u64>(),
    ];
    let body = prop::collection::vec(word, 0..9)
        .prop_map(|words| words.into_iter().flat_map(u64::to_ne_bytes).collect::<Vec<u8>>());
    (1u32..40, body, 0usize..3)
}

proptest! {
    /// Whatever comes in whatever order, the session stays inside its bounds, and actions are about what is there.
    #[test]
    fn any_messages_leave_the_session_inside_its_bounds(
        messages in prop::collection::vec(messages(), 0..100), config in 0..3, pairs in 1u16..70,
    ) {
        let config = [ConfigOffer::Auto, ConfigOffer::On, ConfigOffer::Off][config as usize];
        let mut session = Session::new(Offer { config, pairs, ..OFFER });
        let count = session.rings().len();
        for (number, body, descriptors) in messages {
            let header = [number, 1 | 8, body.len() as u32].map(u32::to_ne_bytes).concat();
            let Ok(header) = Header::parse(&header.try_into().unwrap()) else { continue };
            let Ok(request) = Request::parse(header, &body, descriptors) else { continue };
            let before = session.clone();
            let Ok(outcome) = session.request(&request, header.needs_reply) else {
                prop_assert_eq!(&session, &before);
                continue;
            };
            match &outcome.action {
                Action::Start(index) | Action::Restart(index) => {
                    let ring = session.rings()[*index];
                    prop_assert!(ring.started && ring.num > 0 && ring.addresses.is_some());
                }
                Action::Stop(index) => prop_assert!(!session.rings()[*index].started),
                Action::Enable(rings) => prop_assert!(rings.end <= count),
                Action::Memory { kept, mapped } => {
                    prop_assert_eq!(kept.len() + mapped.len(), session.regions().len());
                    prop_assert!(kept.iter().all(|&place| place < before.regions().len()));
                    prop_assert!(mapped.len() <= descriptors);
                }
                Action::MapLog(log) => prop_assert!(log.size <= LARGEST_LOG),
                Action::Reset(rings) => prop_assert!(rings.iter().all(|&index| index < count)),
                _ => {}
            }
            if let Some(octets) = session.emit(header.kind, &outcome.answer) {
                prop_assert!(octets.len() <= HEADER + message::LONGEST);
            }
            prop_assert_eq!(session.rings().len(), count);
            prop_assert!(session.regions().len() <= SLOTS);
            prop_assert_eq!(session.features() & !(session.offered() | before.offered()), 0);
            prop_assert!(session.rings().iter().all(|ring| ring.num <= LONGEST_RING));
            prop_assert!(!session.waits_for().is_empty());
        }
    }
}
