//! The addresses that were parsed last: almost all calls go to a few, and parsing one costs more than finding it here.

use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Uri;
use url::{ParseError, Url};

/// Addresses kept. There are about a dozen endpoints without an id in their path.
const KEPT: usize = 16;

/// A small memory of parsed addresses. Nobody ever waits for it: where another thread is changing it, an address is
/// simply parsed.
#[derive(Default)]
pub(super) struct ParsedUrls {
    entries: RwLock<Vec<(Uri, Url)>>,
    /// Which entry the next new one takes the place of.
    oldest: AtomicUsize,
}

impl ParsedUrls {
    /// The address in `reqwest`'s form.
    pub(super) fn parse(&self, uri: &Uri) -> Result<Url, ParseError> {
        if let Ok(entries) = self.entries.try_read()
            && let Some((_, url)) = entries.iter().find(|(known, _)| same(known, uri))
        {
            return Ok(url.clone());
        }
        let url = Url::parse(&uri.to_string())?;
        // Queries are made of cursors and ids: they do not come back.
        if uri.query().is_none()
            && let Ok(mut entries) = self.entries.try_write()
        {
            let entry = (uri.clone(), url.clone());
            if entries.len() < KEPT {
                entries.push(entry);
            } else if let Some(slot) = entries.get_mut(self.oldest.fetch_add(1, Ordering::Relaxed) % KEPT) {
                *slot = entry;
            }
        }
        Ok(url)
    }
}

/// Equal to the letter, which is cheaper than equal by the rules and errs on the safe side.
fn same(a: &Uri, b: &Uri) -> bool {
    fn rest(uri: &Uri) -> &str {
        uri.path_and_query().map_or("", |rest| rest.as_str())
    }
    fn authority(uri: &Uri) -> &str {
        uri.authority().map_or("", |authority| authority.as_str())
    }
    rest(a) == rest(b) && authority(a) == authority(b) && a.scheme_str() == b.scheme_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_what_was_parsed() {
        let urls = ParsedUrls::default();
        let addresses = [
            "http://a.test/api/v1/asample",
            "https://a.test/api/v1/asample",
            "http://a.test:81/api/v1/asample",
            "http://b.test/api/v1/asample",
            "http://a.test/api/v1/bsample",
            "http://a.test/api/v1/asample?x=1",
            "http://a.test/",
        ];
        for address in addresses.iter().chain(&addresses) {
            let uri = address.parse().unwrap();
            assert_eq!(urls.parse(&uri).unwrap().as_str(), *address);
        }
        assert_eq!(urls.entries.read().unwrap().len(), addresses.len() - 1, "no queries");
    }

    #[test]
    fn no_more_than_a_few_are_kept_and_the_oldest_goes() {
        let urls = ParsedUrls::default();
        let uri = |n: usize| format!("http://a.test/{n}").parse::<Uri>().unwrap();
        for n in 0..=KEPT {
            urls.parse(&uri(n)).unwrap();
        }
        let entries = urls.entries.read().unwrap();
        assert_eq!(entries.len(), KEPT);
        assert!(!entries.iter().any(|(known, _)| *known == uri(0)));
        assert!(entries.iter().any(|(known, _)| *known == uri(KEPT)));
    }
}
