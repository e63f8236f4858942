use std::cell::RefCell;
use std::collections::BTreeMap;

use super::ledger::Entry as _;
use super::*;

#[derive(Default)]
struct Fake(RefCell<BTreeMap<String, String>>);

impl Fake {
    fn new(pairs: &[(&str, &str)]) -> Fake {
        Fake(RefCell::new(pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()))
    }

    fn is(&self, variable: &str) -> String {
        self.get(variable).unwrap()
    }
}

impl Variables for Fake {
    fn get(&self, variable: &str) -> io::Result<String> {
        self.0.borrow().get(variable).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn set(&self, variable: &str, value: &str) -> io::Result<()> {
        self.0.borrow_mut().insert(variable.to_owned(), value.to_owned());
        Ok(())
    }
}

fn user(process: u32) -> User {
    User { process, started: 1, network: "lab".to_owned() }
}

fn wanted(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

#[test]
fn what_was_set_is_put_back_by_its_last_user() {
    let (kernel, mut entries) = (Fake::new(&[("a", "0"), ("b", "1")]), Vec::new());
    let both = wanted(&[("a", "1"), ("b", "1")]);
    acquire(&mut entries, &kernel, &user(1), &both).unwrap();
    acquire(&mut entries, &kernel, &user(2), &both).unwrap();
    assert_eq!(entries.len(), 2, "b was so already: {entries:?}");
    release(&mut entries, &kernel, |other| *other == user(1));
    assert_eq!(kernel.is("a"), "1");
    release(&mut entries, &kernel, |other| *other == user(2));
    assert_eq!((kernel.is("a"), kernel.is("b")), ("0".to_owned(), "1".to_owned()));
    assert!(entries.is_empty());
}

#[test]
fn what_others_changed_stays() {
    let (kernel, mut entries) = (Fake::new(&[("a", "1")]), Vec::new());
    acquire(&mut entries, &kernel, &user(1), &wanted(&[("a", "2")])).unwrap();
    kernel.set("a", "0").unwrap();
    release(&mut entries, &kernel, |_| true);
    assert_eq!(kernel.is("a"), "0");
}

#[test]
fn an_error_leaves_what_was_set_on_record() {
    let (kernel, mut entries) = (Fake::new(&[("a", "0")]), Vec::new());
    let error = acquire(&mut entries, &kernel, &user(1), &wanted(&[("a", "1"), ("gone", "1")])).unwrap_err();
    assert!(error.contains("gone"), "{error}");
    release(&mut entries, &kernel, |_| true);
    assert_eq!(kernel.is("a"), "0");
}

#[test]
fn lines_are_read_as_they_are_written() {
    let entry = Entry {
        variable: "net/ipv4/conf/eth0/forwarding".to_owned(),
        before: "0".to_owned(),
        set: "1".to_owned(),
        user: user(77),
    };
    assert_eq!(Entry::parse(&entry.emit()), Some(entry));
    for bad in ["", "a 0 1", "a 0 1 x 1 lab", "../../etc/passwd 0 1 1 1 lab", "/etc/passwd 0 1 1 1 lab"] {
        assert_eq!(Entry::parse(bad), None, "{bad}");
    }
}
