use super::*;

/// A hook that answers every request with the same, and says that it was asked.
struct Answering(&'static str, ControlResult, Log);

impl Answering {
    fn answer(&self) -> ControlResult {
        self.2.lock().push(self.0.into());
        self.1
    }
}

impl Filter for Answering {
    fn control(&self, _: &Link, _: &mut Request<'_>) -> ControlResult {
        self.answer()
    }
}

impl Protocol for Answering {
    fn input(&self, _: &Context<'_>, _: &mut Batch) -> Result<(), Error> {
        Ok(())
    }

    fn control(&self, _: &Link, _: &mut Request<'_>) -> ControlResult {
        self.answer()
    }
}

impl Driver for Answering {
    fn control(&self, _: &Link, _: &mut Request<'_>) -> ControlResult {
        self.answer()
    }
}

/// Sends a request for IPv4 to hooks with these answers. Returns the result, and the hooks that were asked.
fn ask(
    filter: ControlResult,
    proto: ControlResult,
    driver: ControlResult,
) -> (Result<(), Error>, Vec<String>) {
    let (registry, log) = (registry(), Log::default());
    let link = acquired(&registry);
    link.attach(Arc::new(Answering("driver", driver, log.clone())), None).unwrap();
    link.attach_filter(FilterOptions::new("f"), Arc::new(Answering("filter", filter, log.clone()))).unwrap();
    let answering = Arc::new(Answering("protocol", proto, log.clone()));
    link.attach_protocol(protocol(ProtocolFamily::INET), answering).unwrap();
    let mut request = Request { code: 7, family: ProtocolFamily::INET, data: &mut () };
    (link.control(&mut request), logged(&log))
}

const DONE: ControlResult = Ok(Answer::Done);
const CONSUMED: ControlResult = Ok(Answer::Consumed);
const UNHANDLED: ControlResult = Err(Error::OperationNotSupported);
const ENOTSUP: ControlResult = Err(Error::NotSupported);
const EIO: ControlResult = Err(Error::Io);
const EPERM: ControlResult = Err(Error::NotPermitted);

#[test]
fn case_34_success_stands_against_later_errors() {
    assert_eq!(ask(DONE, UNHANDLED, EIO).0, Ok(()));
}

#[test]
fn case_35_unhandled_takes_the_next_answer() {
    assert_eq!(ask(UNHANDLED, UNHANDLED, EIO).0, Err(Error::Io));
}

#[test]
fn case_36_an_error_ends_the_walk() {
    assert_eq!(ask(EPERM, DONE, DONE), (Err(Error::NotPermitted), vec!["filter".into()]));
}

#[test]
fn case_37_enotsup_everywhere() {
    assert_eq!(ask(ENOTSUP, ENOTSUP, ENOTSUP).0, Err(Error::OperationNotSupported));
}

#[test]
fn precedence_of_the_others() {
    let asked = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let all = asked(&["filter", "protocol", "driver"]);
    assert_eq!(ask(DONE, EIO, DONE), (Ok(()), all.clone()));
    assert_eq!(ask(DONE, CONSUMED, EIO), (Ok(()), asked(&["filter", "protocol"])));
    assert_eq!(ask(CONSUMED, EIO, EIO), (Ok(()), asked(&["filter"])));
    assert_eq!(ask(UNHANDLED, EIO, DONE), (Err(Error::Io), asked(&["filter", "protocol"])));
    assert_eq!(ask(ENOTSUP, UNHANDLED, DONE), (Ok(()), all));
}

#[test]
fn code_zero_and_other_families() {
    let (registry, log) = (registry(), Log::default());
    let link = attached(&registry);
    let six = FilterOptions { protocol: Some(ProtocolFamily::INET6), ..FilterOptions::new("six") };
    link.attach_filter(six, Arc::new(Answering("six", EIO, log.clone()))).unwrap();
    let mut request = Request { code: 0, family: ProtocolFamily::INET, data: &mut () };
    assert_eq!(link.control(&mut request), Err(Error::InvalidArgument));
    request.code = 1;
    assert_eq!(link.control(&mut request), Err(Error::OperationNotSupported));
    assert!(logged(&log).is_empty());
}
