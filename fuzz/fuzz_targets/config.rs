#![no_main]
//! Configuration text: reading, checking and showing faults never fails, and what is valid stays so.

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use vmlan_daemon::config::{from_json, parse};
use vmlan_daemon::plan::plan;

fuzz_target!(|text: &str| {
    match parse(text, "vmlan.toml", Some(Path::new("/etc/vmlan"))) {
        Ok(config) => {
            assert!(plan(&config, &config).is_empty());
            let json = serde_json::to_value(config.as_api()).expect("plain data");
            let again = from_json(json).expect("what is valid in TOML is valid in JSON");
            assert_eq!(again, config);
        }
        Err(errors) => {
            assert!(!errors.faults().is_empty());
            assert!(errors.to_string().starts_with("error: "));
        }
    }
});
