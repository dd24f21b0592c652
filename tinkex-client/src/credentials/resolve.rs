//! The order in which a credential is chosen (PROTOCOL 3.2), as a pure function.

use super::claims::JWT_PREFIX;
use super::store::CredentialStoreError;

const KEY_PREFIX: &str = "tml-";

/// What there is to choose from. Empty texts count as none.
#[derive(Clone, Copy)]
pub(crate) struct Offer<'a> {
    /// A key that was given, else the one of the environment.
    pub(crate) key: Option<&'a str>,
    /// A command that prints a credential.
    pub(crate) command: Option<&'a str>,
    /// Whether the server is the production one, whose keys are of known forms.
    pub(crate) production: bool,
}

/// What is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This text.
    Key(String),
    /// What this command prints.
    Command(String),
}

/// Why nothing can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unresolved {
    #[error(
        "is missing; pass api_key(..), or set TINKER_API_KEY or TINKER_CREDENTIAL_CMD, or store a default key, and use \
         from_env()"
    )]
    Missing,
    #[error("must begin with tml- for the production service")]
    Prefix,
    #[error(
        "is of no use here: the service wants the output of a credential command; pass credential_command(..), or set \
         TINKER_CREDENTIAL_CMD and use from_env()"
    )]
    CommandWanted,
    #[error("cannot be taken from the stored file: {0}")]
    Store(#[from] CredentialStoreError),
}

/// Chooses: a JWT as it is; the command where the server enforces it; a key of the right form; the command; the stored
/// default. `stored` is asked only where its turn comes, so that a broken file harms nobody who does not need it.
///
/// A server other than the production one takes keys of any form, so a key that is neither a JWT nor begins with `tml-`
/// is used there as it is, whatever else there may be.
pub(crate) fn resolve(
    offer: Offer<'_>,
    enforce_command: bool,
    stored: impl FnOnce() -> Result<Option<String>, CredentialStoreError>,
) -> Result<Choice, Unresolved> {
    let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let (key, command) = (given(offer.key), given(offer.command));
    let fits = |key: &str| !offer.production || key.starts_with(KEY_PREFIX) || key.starts_with(JWT_PREFIX);
    let as_it_is = |key: &str| key.starts_with(JWT_PREFIX) || (fits(key) && !key.starts_with(KEY_PREFIX));
    match (key, command) {
        (Some(key), _) if as_it_is(&key) => Ok(Choice::Key(key)),
        (_, Some(command)) if enforce_command => Ok(Choice::Command(command)),
        (_, None) if enforce_command => Err(Unresolved::CommandWanted),
        (Some(key), _) if fits(&key) => Ok(Choice::Key(key)),
        (_, Some(command)) => Ok(Choice::Command(command)),
        (Some(_), None) => Err(Unresolved::Prefix),
        (None, None) => match stored()? {
            Some(key) if fits(&key) => Ok(Choice::Key(key)),
            Some(_) => Err(Unresolved::Prefix),
            None => Err(Unresolved::Missing),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const JWT: &str = "eyJhIjoxfQ.eyJleHAiOjE3MDAwMDM2MDAsImlhdCI6MTcwMDAwMDAwMH0.s";

    /// `vectors/credentials`, `resolution`: every combination of an argument, the variables, a stored default and the
    /// enforced command.
    #[test]
    fn every_vector() {
        let text = include_str!("../../../tinkex-testkit/fixtures/golden/vectors/credentials.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        let rows = vectors["resolution"].as_array().unwrap();
        assert_eq!(rows.len(), 90);
        for row in rows {
            let text = |name: &str| row[name].as_str().map(|text| text.replace("<jwt valid>", JWT));
            let argument = text("api_key_arg").filter(|key| !key.is_empty());
            let (key, command) = (argument.or(text("TINKER_API_KEY")), text("TINKER_CREDENTIAL_CMD"));
            let offer = Offer { key: key.as_deref(), command: command.as_deref(), production: true };
            let choice = resolve(offer, row["enforce_cmd"].as_bool().unwrap(), || Ok(text("stored_default")));
            let result = &row["result"];
            match (result["provider"].as_str(), choice) {
                (Some("api_key"), Ok(Choice::Key(key))) => {
                    assert_eq!(key, result["token"].as_str().unwrap().replace("<jwt valid>", JWT), "{row}");
                }
                (Some("credential_cmd"), Ok(Choice::Command(command))) => {
                    let printed = result["token"].as_str().unwrap();
                    assert_eq!(command, format!("echo {printed}"), "{row}");
                }
                (None, Err(_)) => assert!(result["error"].is_string(), "{row}"),
                (_, choice) => panic!("{row}: {choice:?}"),
            }
        }
    }

    /// The stored default comes last, and its form is checked like any key's.
    #[test]
    fn the_stored_default() {
        let offer = Offer { key: None, command: None, production: true };
        let chosen = resolve(offer, false, || Ok(Some("tml-stored".to_owned())));
        assert_eq!(chosen.unwrap(), Choice::Key("tml-stored".to_owned()));
        let refused = resolve(offer, false, || Ok(Some("sk-stored".to_owned())));
        assert!(matches!(refused, Err(Unresolved::Prefix)));
        let elsewhere = Offer { production: false, ..offer };
        let chosen = resolve(elsewhere, false, || Ok(Some("sk-stored".to_owned())));
        assert_eq!(chosen.unwrap(), Choice::Key("sk-stored".to_owned()));
        for offer in [Offer { key: Some("tml-a"), ..offer }, Offer { command: Some("echo"), ..offer }] {
            resolve(offer, false, || panic!("the file is read without need")).unwrap();
        }
    }

    /// Other servers than the production one take keys of any form (OPEN_SERVERS, decision 8).
    #[test]
    fn keys_of_other_servers() {
        let offer = Offer { key: Some("sk-x"), command: Some("echo"), production: false };
        for enforced in [false, true] {
            assert_eq!(
                resolve(offer, enforced, || Ok(None)).unwrap(),
                Choice::Key("sk-x".to_owned()),
                "{enforced}"
            );
        }
        let ours = Offer { key: Some("tml-x"), ..offer };
        assert_eq!(resolve(ours, true, || Ok(None)).unwrap(), Choice::Command("echo".to_owned()));
        let production = Offer { production: true, ..offer };
        assert_eq!(resolve(production, false, || Ok(None)).unwrap(), Choice::Command("echo".to_owned()));
    }
}
