use super::*;

struct Nothing;

impl Filter for Nothing {}

impl Protocol for Nothing {
    fn input(&self, _: &Context<'_>, _: &mut Batch) -> Result<(), Error> {
        Ok(())
    }
}

impl Tap for Nothing {
    fn frame(&self, _: &Context<'_>, _: vmlan_frame::Direction, _: &Frame) {}
}

/// The answers that the link's observer gets from now on.
fn watched(link: &Link) -> Arc<Mutex<Vec<bool>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let answers = Arc::clone(&told);
    link.watch_users(Arc::new(move |has_users| answers.lock().push(has_users)));
    told
}

fn taken(told: &Mutex<Vec<bool>>) -> Vec<bool> {
    core::mem::take(&mut *told.lock())
}

fn filter(link: &Link) -> FilterId {
    link.attach_filter(FilterOptions::new("nothing"), Arc::new(Nothing)).unwrap()
}

fn tap(link: &Link) -> TapId {
    link.attach_tap(Arc::new(Nothing)).unwrap()
}

#[test]
fn the_first_user_and_the_last_are_told() {
    let registry = registry();
    let link = attached(&registry);
    let told = watched(&link);
    assert_eq!(taken(&told), [false]);
    let id = tap(&link);
    assert_eq!(taken(&told), [true]);
    let other = filter(&link);
    link.detach_tap(id).unwrap();
    assert_eq!(taken(&told), []);
    link.detach_filter(other).unwrap();
    assert_eq!(taken(&told), [false]);
    link.attach_protocol(protocol(ProtocolFamily::INET), Arc::new(Nothing)).unwrap();
    assert_eq!(taken(&told), [true]);
    link.detach_protocol(ProtocolFamily::INET).unwrap();
    assert_eq!(taken(&told), [false]);
}

#[test]
fn the_network_is_no_user() {
    let registry = registry();
    let link = attached(&registry);
    let told = watched(&link);
    drop(link.attach_bridge().unwrap());
    assert_eq!(taken(&told), [false]);
}

#[test]
fn the_present_state_is_told_at_once_and_to_the_last_observer_only() {
    let registry = registry();
    let link = attached(&registry);
    let id = tap(&link);
    let former = watched(&link);
    let told = watched(&link);
    assert_eq!((taken(&former), taken(&told)), (vec![true], vec![true]));
    assert_eq!(Arc::strong_count(&former), 1);
    link.detach_tap(id).unwrap();
    assert_eq!((taken(&former), taken(&told)), (vec![], vec![false]));
}

#[test]
fn a_link_that_is_detached_has_no_users_and_keeps_its_observer() {
    let registry = registry();
    let link = attached(&registry);
    let told = watched(&link);
    tap(&link);
    filter(&link);
    link.detach().unwrap();
    assert_eq!(taken(&told), [false, true, false]);
    link.attach(Arc::new(()), Some(MAC.into())).unwrap();
    assert_eq!(taken(&told), []);
    filter(&link);
    assert_eq!(taken(&told), [true]);
}

#[test]
fn a_user_that_is_refused_is_none() {
    let registry = registry();
    let link = acquired(&registry);
    let told = watched(&link);
    assert!(link.attach_tap(Arc::new(Nothing)).is_err());
    assert_eq!(taken(&told), [false]);
}

#[test]
fn a_recycled_record_has_no_observer() {
    let registry = registry();
    let options = || LinkOptions { unique_id: Some(vec![1]), ..LinkOptions::ethernet("test").unwrap() };
    let link = registry.acquire(options()).unwrap();
    let told = watched(&link);
    drop(link);
    assert_eq!(Arc::strong_count(&told), 1);
    let link = registry.acquire(options()).unwrap();
    assert!(link.is_recycled());
    link.attach(Arc::new(()), Some(MAC.into())).unwrap();
    filter(&link);
    assert_eq!(taken(&told), [false]);
}

#[test]
fn a_user_counts_before_the_call_that_attached_it_returns() {
    let registry = registry();
    let link = attached(&registry);
    let told = watched(&link);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let id = filter(&link);
                    assert_eq!(told.lock().last(), Some(&true));
                    link.detach_filter(id).unwrap();
                }
            });
        }
    });
    let told = taken(&told);
    assert_eq!(told.last(), Some(&false));
    assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "told once each time");
}
