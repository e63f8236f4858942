use proptest::prelude::*;

use super::*;

#[test]
fn every_form_of_a_forward_is_read() {
    for (text, sockets, port, transport) in [
        ("127.0.0.1:2222=web:22", &["127.0.0.1:2222 22"][..], "web", Transport::Tcp),
        ("2222=web:22", &["127.0.0.1:2222 22", "[::1]:2222 22"], "web", Transport::Tcp),
        (
            "8000-8001=web",
            &["127.0.0.1:8000 8000", "127.0.0.1:8001 8001", "[::1]:8000 8000", "[::1]:8001 8001"],
            "web",
            Transport::Tcp,
        ),
        ("0.0.0.0:53=dns:53/udp", &["0.0.0.0:53 53"], "dns", Transport::Udp),
        ("[::1]:80=web", &["[::1]:80 80"], "web", Transport::Tcp),
        ("[::]:7-8=guests.0:17-18/tcp", &["[::]:7 17", "[::]:8 18"], "guests.0", Transport::Tcp),
        ("192.0.2.1:65535=web:1", &["192.0.2.1:65535 1"], "web", Transport::Tcp),
        ("/run/vmlan/db.sock=db:5432", &[], "db", Transport::Tcp),
    ] {
        let spec = ForwardSpec::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let found: Vec<_> = spec.sockets().map(|(at, number)| format!("{at} {number}")).collect();
        assert_eq!(
            (&found[..], &*spec.port, spec.transport),
            (&sockets.iter().map(|s| s.to_string()).collect::<Vec<_>>()[..], port, transport),
            "{text}"
        );
    }
    let spec = ForwardSpec::parse("/srv/a=b.sock=db:5432").expect("a path with `=`");
    assert_eq!(spec.listen, Listen::Unix("/srv/a=b.sock".into()));
}

#[test]
fn a_forward_is_written_as_short_as_it_can_be() {
    for (text, written) in [
        ("80=web:80/tcp", "80=web"),
        ("80-81=web:80-81", "80-81=web"),
        ("80-81=web:90", "80-81=web:90-91"),
        ("[0::1]:80=web/udp", "[::1]:80=web/udp"),
        ("./db.sock=db:1", "./db.sock=db:1"),
    ] {
        assert_eq!(ForwardSpec::parse(text).expect(text).to_string(), written);
    }
}

#[test]
fn what_is_no_forward_says_what_to_write() {
    for (text, complaint) in [
        ("", "write LISTEN=PORT"),
        ("2222", "write LISTEN=PORT"),
        ("0=web", "from 1 to 65535"),
        ("65536=web", "from 1 to 65535"),
        ("+1=web", "from 1 to 65535"),
        ("9-8=web", "ends before it begins"),
        ("1-65535=web", "more than 1024"),
        ("8-9=web:1-3", "different lengths"),
        ("8-9=web:65535", "beyond 65535"),
        ("80=", "name of a port"),
        ("80=a b", "name of a port"),
        ("::1:80=web", "in brackets"),
        ("localhost:80=web", "an address of this host"),
        ("224.0.0.1:80=web", "groups"),
        ("/run/x.sock=web", "PATH=PORT:NUMBER"),
        ("/run/x.sock=web:1-2", "one number"),
        ("/run/x.sock=web:1/udp", "takes TCP only"),
        ("80=web/sctp", "name of a port"),
    ] {
        let error = ForwardSpec::parse(text).expect_err(text).to_string();
        assert!(error.contains(complaint), "{text}: {error}");
    }
    let path = format!("/{}=web:1", "x".repeat(120));
    assert!(ForwardSpec::parse(&path).is_err_and(|error| error.to_string().contains("too long")));
}

#[test]
fn forwards_at_one_place_overlap() {
    for (one, two, expected) in [
        ("80=a", "80=b", true),
        ("80=a", "127.0.0.1:80=b", true),
        ("80=a", "192.0.2.1:80=b", false),
        ("0.0.0.0:80=a", "192.0.2.1:80=b", true),
        ("[::]:80=a", "192.0.2.1:80=b", false),
        ("80-90=a", "90=b", true),
        ("80-90=a", "91=b", false),
        ("80=a/udp", "80=b", false),
        ("/x=a:1", "/x=b:1", true),
        ("/x=a:80", "80=b", false),
    ] {
        let read = |text| ForwardSpec::parse(text).expect("a forward");
        assert_eq!(read(one).overlaps(&read(two)), expected, "{one} {two}");
        assert_eq!(read(two).overlaps(&read(one)), expected, "{two} {one}");
    }
}

#[test]
fn host_services_are_numbers_or_paths() {
    let loopback =
        |number, target, transport| HostService { number, target: HostTarget::Loopback(target), transport };
    for (text, service) in [
        ("5432", loopback(5432, 5432, Transport::Tcp)),
        ("53/udp", loopback(53, 53, Transport::Udp)),
        ("8000=80/udp", loopback(8000, 80, Transport::Udp)),
        (
            "8000=/run/udp",
            HostService {
                number: 8000,
                target: HostTarget::Unix("/run/udp".into()),
                transport: Transport::Tcp,
            },
        ),
    ] {
        assert_eq!(HostService::parse(text), Ok(service.clone()), "{text}");
        assert_eq!(service.to_string(), text);
    }
    for text in ["", "0", "x", "1-2", "80=", "=80", "80=1-2", "80/sctp"] {
        assert!(HostService::parse(text).is_err(), "{text}");
    }
}

#[test]
fn relative_paths_are_below_the_files_directory() {
    for (is_forward, text, resolved) in [
        (true, "./db.sock=db:1", "/etc/./db.sock=db:1"),
        (true, "/run/db.sock=db:1", "/run/db.sock=db:1"),
        (true, "80=db:1/udp", "80=db:1/udp"),
        (false, "80=./x", "80=/etc/./x"),
        (false, "80=81/udp", "80=81/udp"),
        (false, "80", "80"),
    ] {
        let mut text = text.to_owned();
        resolve(&mut text, is_forward, Path::new("/etc"));
        assert_eq!(text, resolved);
    }
}

proptest! {
    #[test]
    fn what_is_read_is_printed_and_read_alike(
        text in "([0-9./:\\[\\]-]{0,12}|/[a-z=./]{0,8})=?[a-z.0]{0,4}(:[0-9-]{0,8})?(/udp|/tcp)?|\\PC{0,40}"
    ) {
        if let Ok(spec) = ForwardSpec::parse(&text) {
            prop_assert_eq!(ForwardSpec::parse(&spec.to_string()), Ok(spec.clone()));
            prop_assert!(spec.sockets().count() <= 2 * MOST_NUMBERS);
        }
        if let Ok(service) = HostService::parse(&text) {
            prop_assert_eq!(HostService::parse(&service.to_string()), Ok(service));
        }
    }

    #[test]
    fn forwards_of_every_kind_are_printed_and_read_alike(
        address in proptest::option::of(any::<IpAddr>().prop_filter("a host's", |a| !a.is_multicast())),
        first in 1..=u16::MAX, length in 0..20_u16, number in 1..=u16::MAX, udp: bool,
    ) {
        let last = first.saturating_add(length);
        prop_assume!(number.checked_add(last - first).is_some());
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let listen = Listen::Inet { address, first, last };
        let spec = ForwardSpec { listen, port: "web".into(), number, transport };
        prop_assert_eq!(ForwardSpec::parse(&spec.to_string()), Ok(spec));
    }
}
