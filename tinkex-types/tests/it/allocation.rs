//! Whatever bytes come, decoding them takes memory in proportion to them: a small message cannot ask for much.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use tinkex_types::{ForwardBackwardOutput, SampleResponse, proto};

/// The most memory that decoding may hold at any time, for each byte of the message.
const BYTES_PER_BYTE: u64 = 48;

/// And for the message as such.
const ALLOWANCE: u64 = 4 << 20;

/// The most memory that `decode` holds at any time.
fn peak<T>(decode: impl Fn(Bytes) -> T, message: &Bytes) -> u64 {
    allocation_counter::measure(|| {
        let _ = std::hint::black_box(decode(message.clone()));
    })
    .bytes_max
}

fn bound(message: &Bytes) -> u64 {
    message.len() as u64 * BYTES_PER_BYTE + ALLOWANCE
}

/// Both decoders, since nothing says what the bytes are.
#[track_caller]
fn assert_bounded(message: &Bytes) {
    for (name, peak) in [
        ("forward/backward", peak(ForwardBackwardOutput::from_protobuf, message)),
        ("sample", peak(SampleResponse::from_proto, message)),
    ] {
        assert!(peak <= bound(message), "{name}: {peak} bytes for a message of {}", message.len());
    }
}

fn field(offsets: Vec<i64>, data: usize, trailing_shape: Vec<i64>) -> proto::BatchedTensor {
    proto::BatchedTensor {
        data: vec![0; data].into(),
        offsets: offsets.iter().flat_map(|n| n.to_le_bytes()).collect(),
        dtype: proto::DType::DtypeBfloat16.into(),
        trailing_shape,
    }
}

fn result(fields: Vec<(String, proto::BatchedTensor)>, num_datums: i64) -> Bytes {
    let record =
        proto::ArrayRecord { fields: fields.into_iter().collect(), num_datums, ..Default::default() };
    let message = proto::ForwardBackwardOutput { loss_fn_outputs: vec![record], ..Default::default() };
    message.encode_to_vec().into()
}

/// `count` empty messages in the list at `tag`, then bytes of a field that means nothing.
fn crowd(tag: u8, count: usize, padding: usize) -> Bytes {
    const UNKNOWN: u8 = 15;
    let mut message = [tag << 3 | 2, 0].repeat(count);
    message.push(UNKNOWN << 3 | 2);
    prost::encode_length_delimiter(padding, &mut message).unwrap();
    message.resize(message.len() + padding, 0);
    message.into()
}

/// The messages with the most to ask for that we could think of.
#[test]
fn greedy_messages_stay_small() {
    const MANY: usize = 20_000;
    // Every example is a map, a name, a tensor and its shape, for 8 bytes of offsets.
    assert_bounded(&result(vec![("v".to_owned(), field(vec![0; MANY], 0, vec![]))], 0));
    // Long names, and shapes of many dimensions, which all examples could repeat.
    assert_bounded(&result(vec![("v".repeat(MANY), field(vec![0; MANY], 0, vec![]))], 0));
    assert_bounded(&result(vec![("v".to_owned(), field(vec![0; MANY], 0, vec![1; MANY]))], 0));
    assert_bounded(&result(vec![("v".to_owned(), field(vec![0; MANY], 0, vec![0; 8]))], 0));
    // The same bytes for every example.
    assert_bounded(&result(vec![("v".to_owned(), field([0, 4_000].repeat(MANY / 2), 4_000, vec![]))], 0));
    // Numbers of examples that nothing backs.
    for datums in [65_536, 65_537, u32::MAX.into(), i64::MAX] {
        assert_bounded(&result(vec![], datums));
    }
    // Many fields, with and without examples.
    for offsets in [vec![], vec![0], vec![0, 0]] {
        let fields = |offsets: &Vec<i64>| {
            (0..4_000).map(|n| (n.to_string(), field(offsets.clone(), 0, vec![]))).collect()
        };
        assert_bounded(&result(fields(&offsets), 0));
    }
    // Many metrics.
    let metrics = (0..MANY).map(|n| (n.to_string(), 0.0)).collect();
    let message = proto::ForwardBackwardOutput { metrics, ..Default::default() };
    assert_bounded(&message.encode_to_vec().into());
    // Empty list entries, of which two bytes on the wire are many in memory, alone and where the length allows more.
    for tag in [1, 2] {
        // The last number is just above what a growing list had room for.
        for (count, padding) in [(4_000, 0), (MANY, 0), (MANY, 160_000), ((1 << 17) + 1, 1_280_000)] {
            assert_bounded(&crowd(tag, count, padding));
        }
    }
    // Tables that claim to be larger than they are, and large ones of one column.
    for (cells, k, length) in [(4, u32::MAX, u32::MAX), (MANY, 1, MANY as u32), (MANY, MANY as u32, 1)] {
        let column = Bytes::from(vec![1; cells * 4]);
        let topk = proto::TopkLogprobs { token_ids: column.clone(), logprobs: column, k, length };
        let message = proto::SampleResponse { topk_prompt_logprobs: Some(topk), ..Default::default() };
        assert_bounded(&message.encode_to_vec().into());
    }
}

fn any_result() -> impl Strategy<Value = Vec<u8>> {
    let lengths = prop::collection::vec(0i64..6, 0..6);
    let record =
        (prop::collection::vec(("[a-c]", 0i32..6, prop::collection::vec(0i64..3, 0..3)), 0..3), lengths)
            .prop_map(|(fields, lengths)| {
                let mut offsets = vec![0];
                offsets.extend(lengths.iter().scan(0, |end, length| {
                    *end += length * 8;
                    Some(*end)
                }));
                let data = *offsets.last().unwrap_or(&0) as usize;
                let fields = fields.into_iter().map(|(name, dtype, trailing)| {
                    (name, proto::BatchedTensor { dtype, ..field(offsets.clone(), data, trailing) })
                });
                proto::ArrayRecord {
                    fields: fields.collect(),
                    num_datums: lengths.len() as i64,
                    type_tag: String::new(),
                }
            });
    let metrics = prop::collection::btree_map("[a-c]{1,2}", any::<f64>(), 0..3);
    (prop::collection::vec(record, 0..4), metrics).prop_map(|(loss_fn_outputs, metrics)| {
        proto::ForwardBackwardOutput { loss_fn_output_type: "a:b".to_owned(), loss_fn_outputs, metrics }
            .encode_to_vec()
    })
}

fn any_sample() -> impl Strategy<Value = Vec<u8>> {
    let sequence = (prop::collection::vec(any::<u8>(), 0..10), 0u32..4).prop_map(|(tokens, k)| {
        let cells = Bytes::from(vec![0; tokens.len() * k as usize * 4]);
        let tokens: Bytes = tokens.iter().flat_map(|t| i32::from(*t).to_le_bytes()).collect();
        proto::SampledSequence {
            stop_reason: 1,
            topk_sampled_logprobs: Some(proto::TopkLogprobs {
                token_ids: cells.clone(),
                logprobs: cells,
                k,
                length: tokens.len() as u32 / 4,
            }),
            logprobs: Some(tokens.clone()),
            tokens,
        }
    });
    prop::collection::vec(sequence, 0..4)
        .prop_map(|sequences| proto::SampleResponse { sequences, ..Default::default() }.encode_to_vec())
}

/// What can happen to a message: a byte changes, bytes go, bytes come twice, the end is missing.
#[derive(Clone, Debug)]
enum Damage {
    Byte(Index, u8),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Cut(Index),
}

fn any_damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Damage::Byte(at, value)),
        1 => (any::<Index>(), 1usize..9).prop_map(|(at, len)| Damage::Remove(at, len)),
        1 => (any::<Index>(), 1usize..40, 1usize..50).prop_map(|(at, len, n)| Damage::Repeat(at, len, n)),
        1 => any::<Index>().prop_map(Damage::Cut),
    ]
}

fn damaged(mut message: Vec<u8>, damages: &[Damage]) -> Bytes {
    for damage in damages {
        if message.is_empty() {
            break;
        }
        let run = |at: &Index, len: usize| {
            let start = at.index(message.len());
            start..message.len().min(start + len)
        };
        match damage {
            Damage::Byte(at, value) => {
                let at = at.index(message.len());
                message[at] = *value;
            }
            Damage::Remove(at, len) => drop(message.drain(run(at, *len))),
            Damage::Repeat(at, len, n) => {
                let run = run(at, *len);
                let copies = message[run.clone()].repeat(*n);
                message.splice(run, copies);
            }
            Damage::Cut(at) => message.truncate(at.index(message.len())),
        }
    }
    message.into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_bytes_take_much(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        assert_bounded(&bytes.into());
    }

    /// A valid message, damaged: it stays close enough to one to get deep into the decoder.
    #[test]
    fn no_damaged_message_takes_much(
        message in prop_oneof![any_result(), any_sample()],
        damages in prop::collection::vec(any_damage(), 0..5),
    ) {
        assert_bounded(&damaged(message, &damages));
    }

    /// The strategies make messages that are mostly well formed, or the test above would test little.
    #[test]
    fn undamaged_samples_decode(message in any_sample()) {
        prop_assert!(SampleResponse::from_proto(message.into()).is_ok());
    }
}
