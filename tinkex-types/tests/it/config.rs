//! The flags a server sets (PROTOCOL 4, golden `client_config_*`).

use serde_json::{Value, json};
use tinkex_types::{ClientConfig, ClientConfigRequest, DynamicConfig, PROTOCOL_SDK_VERSION};

use crate::support::fixture;

fn reads<T>(scenario: &str)
where
    T: serde::de::DeserializeOwned + serde::Serialize,
{
    let scenario = fixture(scenario);
    let config: T = serde_json::from_value(scenario["response"]["body"].clone()).unwrap();
    assert_eq!(serde_json::to_value(&config).unwrap(), scenario["decoded"], "{}", scenario["name"]);
    let request = ClientConfigRequest { sdk_version: PROTOCOL_SDK_VERSION };
    assert_eq!(serde_json::to_value(request).unwrap(), scenario["request"]["body"]);
}

#[test]
fn recorded_flags_read_as_the_reference_sdk_read_them() {
    reads::<ClientConfig>(include_str!("../fixtures/client_config_all_flags.json"));
    reads::<ClientConfig>(include_str!("../fixtures/client_config_defaults.json"));
    reads::<DynamicConfig>(include_str!("../fixtures/client_dynamic_config.json"));
}

#[test]
fn every_flag_has_a_default_and_bad_values_keep_it() {
    let empty: DynamicConfig = serde_json::from_value(json!({})).unwrap();
    assert_eq!(empty, DynamicConfig::default());
    let names = serde_json::to_value(ClientConfig::default()).unwrap();
    for bad in [json!(null), json!("x"), json!([]), json!(-1), json!(1.5)] {
        let flags: Value = names
            .as_object()
            .unwrap()
            .keys()
            .map(|name| (name.clone(), bad.clone()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let mut config: ClientConfig = serde_json::from_value(flags).unwrap();
        // The one flag that is text takes text.
        config.credential_default_source = ClientConfig::default().credential_default_source;
        assert_eq!(config, ClientConfig::default(), "{bad}");
    }
    for nothing in ["null", "3", "\"x\""] {
        assert!(serde_json::from_str::<ClientConfig>(nothing).is_err(), "{nothing} is no set of flags");
    }
}
