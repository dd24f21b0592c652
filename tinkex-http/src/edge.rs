//! Edge rejections (PROTOCOL 7.3): a 400 without a body is not the service's word but that of something in front of it.
//!
//! It concerns the connection rather than the request, so further calls of its class get fresh connections, and the
//! failure counts as a broken connection, which is tried again. Credit bounds this: whatever is turned down again and
//! again is believed in the end.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::attempt::{AttemptFailure, RawResponse};
use crate::{CallClass, SharedTransport, Transport as _};

/// Rejections in a row that are taken for the edge's, per class of calls.
const CREDIT: u32 = 16;

/// What is said where a rejection is believed, which says nothing itself.
const BELIEVED: &str = "again and again without a word of explanation; something in front of the service may be turning \
                        requests down";

/// How many more rejections are taken for the edge's, per class. A success gives one back.
#[derive(Debug)]
pub(crate) struct EdgeCredit([AtomicU32; CallClass::ALL.len()]);

impl Default for EdgeCredit {
    fn default() -> Self {
        Self([const { AtomicU32::new(CREDIT) }; CallClass::ALL.len()])
    }
}

impl EdgeCredit {
    /// What an attempt came to, with a rejection by the edge told apart from the service's own 400.
    pub(crate) fn judge(
        &self,
        class: CallClass,
        transport: &SharedTransport,
        outcome: Result<RawResponse, AttemptFailure>,
    ) -> Result<RawResponse, AttemptFailure> {
        let credit = &self.0[class.index()];
        match outcome {
            Ok(response) => {
                // Nearly always full: a look is cheaper than a change that all cores must hear of.
                if credit.load(Ordering::Relaxed) < CREDIT {
                    let more = |credit| (credit < CREDIT).then_some(credit + 1);
                    let _ = credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
                }
                Ok(response)
            }
            Err(AttemptFailure::Status(mut response)) if is_rejection(&response) => {
                let less = |credit: u32| credit.checked_sub(1);
                if credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err() {
                    if response.message.is_empty() {
                        response.message = BELIEVED.to_owned();
                    }
                    return Err(AttemptFailure::Status(response));
                }
                transport.renew(class);
                Err(AttemptFailure::Edge)
            }
            Err(failure) => Err(failure),
        }
    }
}

/// A 400 whose length is announced as zero or not at all. One that explains itself in JSON is the service's all the
/// same: something on the way may have compressed it, and taken its length.
fn is_rejection(response: &RawResponse) -> bool {
    response.status == http::StatusCode::BAD_REQUEST
        && !response.announced
        && response.body.trim_ascii_start().first() != Some(&b'{')
}
