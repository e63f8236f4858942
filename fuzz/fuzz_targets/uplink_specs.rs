#![no_main]
//! Forwards, host services and rules of egress: reading never fails, and what is read is printed and read alike.

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use vmlan_daemon::config::uplink::egress::{Spec, rule};
use vmlan_daemon::config::uplink::forward::{ForwardSpec, HostService, MOST_NUMBERS, resolve};

fuzz_target!(|text: &str| {
    if let Ok(forward) = ForwardSpec::parse(text) {
        assert_eq!(ForwardSpec::parse(&forward.to_string()).as_ref(), Ok(&forward));
        assert!(forward.overlaps(&forward));
        assert!(forward.sockets().count() <= 2 * MOST_NUMBERS);
    }
    if let Ok(service) = HostService::parse(text) {
        assert_eq!(HostService::parse(&service.to_string()), Ok(service));
    }
    for allow in [false, true] {
        if let Ok(read) = rule(allow, text) {
            assert_eq!(rule(allow, &Spec(&read).to_string()).as_ref(), Ok(&read));
        }
        let mut text = text.to_owned();
        resolve(&mut text, allow, Path::new("/etc/vmlan"));
    }
});
