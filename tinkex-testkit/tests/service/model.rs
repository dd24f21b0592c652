//! The language model: probabilities, sampling, scoring.

use proptest::prelude::*;
use tinkex_testkit::model::{
    END_OF_TEXT, Finish, GenerationPlan, LanguageModel, PromptQuestions, SplitMix64, Stop, TargetCells,
    Targets, VOCABULARY, byte_of,
};

fn tokens(text: &str) -> Vec<i32> {
    text.bytes().map(i32::from).collect()
}

fn model() -> LanguageModel {
    LanguageModel::named("Qwen/Qwen3-8B")
}

fn argmax(values: &[f32]) -> i32 {
    let best = values.iter().copied().fold(f32::MIN, f32::max);
    values.iter().position(|v| *v == best).unwrap() as i32
}

/// S1-03: logprobs are computed, so they must be the logarithms of probabilities.
#[test]
fn probabilities_are_positive_and_sum_to_one_in_known_and_unknown_contexts() {
    for context in ["", "T", "The model ", "zqxj\u{7}", "temperature", "ÄÖÜ"] {
        let probabilities = model().probabilities(&tokens(context));
        let sum: f64 = probabilities.iter().sum();
        assert!((sum - 1.0).abs() < 1e-12, "{context:?}: {sum}");
        assert!(probabilities.iter().all(|p| *p > 0.0 && *p < 1.0), "{context:?}");
        let logits = model().logits(&tokens(context));
        for (p, logit) in probabilities.iter().zip(logits) {
            assert!(logit.is_finite() && (p.ln() as f32 - logit).abs() < 1e-6);
        }
    }
}

#[test]
fn sampled_text_is_made_of_the_words_of_the_corpus() {
    let plan =
        GenerationPlan { temperature: 0.6, max_tokens: 400, stop: Stop::Never, ..GenerationPlan::default() };
    let text = model().generate(&tokens("The model "), &plan, 11).text();
    let words: Vec<&str> = text.split([' ', '.', ',', '\0']).filter(|w| w.len() > 2).collect();
    let known = include_str!("../../src/model/corpus.txt");
    let found = words.iter().filter(|w| known.contains(**w)).count();
    assert!(words.len() > 40 && found * 10 >= words.len() * 8, "{found} of {} words: {text}", words.len());
}

#[test]
fn greedy_sampling_takes_the_likeliest_token_at_every_step_whatever_the_seed() {
    let plan =
        GenerationPlan { temperature: 0.0, max_tokens: 40, stop: Stop::Never, ..GenerationPlan::default() };
    let result = model().generate(&tokens("Training "), &plan, 1);
    assert_eq!(result, model().generate(&tokens("Training "), &plan, 2));
    let mut context = tokens("Training ");
    for (token, logprob) in result.tokens.iter().zip(&result.logprobs) {
        let logits = model().logits(&context);
        assert_eq!(*token, argmax(&logits));
        assert_eq!(*logprob, logits[*token as usize]);
        context.push(*token);
    }
    assert_eq!((result.tokens.len(), result.finish), (40, Finish::Length));
}

/// S1-03: the reported logprobs are the model's own, whatever temperature and top-p did to the choice.
#[test]
fn logprobs_and_alternatives_are_those_of_the_unmodified_model() {
    let plan = GenerationPlan {
        temperature: 1.7,
        top_p: 0.8,
        max_tokens: 30,
        alternatives: 3,
        stop: Stop::Never,
        ..GenerationPlan::default()
    };
    let mut context = tokens("A seed makes ");
    let result = model().generate(&context, &plan, 5);
    for ((token, logprob), top) in result.tokens.iter().zip(&result.logprobs).zip(&result.alternatives) {
        let logits = model().logits(&context);
        assert_eq!(*logprob, logits[*token as usize]);
        assert_eq!(top.len(), 3);
        assert_eq!(top[0].0, argmax(&logits));
        assert!(top.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        assert!(top.iter().all(|(id, value)| logits[*id as usize] == *value));
        context.push(*token);
    }
}

#[test]
fn equal_seeds_repeat_and_streams_of_a_seed_differ() {
    let plan = GenerationPlan { max_tokens: 60, stop: Stop::Never, ..GenerationPlan::default() };
    let run = |seed| model().generate(&tokens("The "), &plan, seed);
    let stream = |index| SplitMix64::stream(42, index).next_u64();
    assert_eq!(run(stream(0)), run(stream(0)));
    assert_ne!(run(stream(0)).tokens, run(stream(1)).tokens);
    assert_ne!(run(stream(1)).tokens, run(stream(2)).tokens);
}

#[test]
fn sampling_frequencies_follow_the_probabilities() {
    let context = tokens("The sampler ");
    let plan = GenerationPlan { max_tokens: 1, stop: Stop::Never, ..GenerationPlan::default() };
    let mut counts = [0_u32; VOCABULARY];
    for index in 0..4000 {
        let seed = SplitMix64::stream(9, index).next_u64();
        counts[model().generate(&context, &plan, seed).tokens[0] as usize] += 1;
    }
    for (p, count) in model().probabilities(&context).iter().zip(counts) {
        let expected = p * 4000.0;
        let spread = (expected * (1.0 - p)).sqrt();
        assert!((f64::from(count) - expected).abs() <= 5.0 * spread + 2.0, "{count} instead of {expected}");
    }
}

#[test]
fn a_stop_string_ends_the_sample_with_the_stop_in_it_and_the_end_of_text_is_then_ordinary() {
    let plan = GenerationPlan {
        max_tokens: 2000,
        stop: Stop::Strings(vec![b"".to_vec(), b"token".to_vec(), b". ".to_vec()]),
        ..GenerationPlan::default()
    };
    let result = model().generate(&tokens("The sampler "), &plan, 3);
    let text = result.text();
    assert_eq!(result.finish, Finish::Stop);
    assert!(text.ends_with("token") || text.ends_with(". "), "{text}");
    assert!(!text[..text.len() - 1].contains("token") && !text[..text.len() - 1].contains(". "), "{text}");
}

#[test]
fn stop_tokens_the_implicit_end_and_no_stop_at_all() {
    let prompt = tokens("and in the end ");
    let plan = |stop| GenerationPlan { max_tokens: 3000, stop, ..GenerationPlan::default() };
    let comma = model().generate(&prompt, &plan(Stop::Tokens(vec![i32::from(b','), 300])), 1);
    assert_eq!((comma.tokens.last(), comma.finish), (Some(&i32::from(b',')), Finish::Stop));
    let implicit = model().generate(&prompt, &plan(Stop::EndOfText), 1);
    assert_eq!((implicit.tokens.last(), implicit.finish), (Some(&END_OF_TEXT), Finish::Stop));
    assert_eq!(implicit.tokens.iter().filter(|t| **t == END_OF_TEXT).count(), 1);
    assert!(!implicit.text().contains('\0'), "text() leaves the end of text out");
    let endless = model().generate(&prompt, &plan(Stop::Never), 1);
    assert_eq!((endless.tokens.len(), endless.finish), (3000, Finish::Length));
    assert!(endless.tokens.contains(&END_OF_TEXT), "an end of text does not stop it");
}

#[test]
fn models_of_different_names_differ_a_little_and_equal_names_not_at_all() {
    let (a, b) = (LanguageModel::named("a"), LanguageModel::named("b"));
    let context = tokens("The model ");
    assert_eq!(a.logits(&context), LanguageModel::named("a").logits(&context));
    let largest =
        a.logits(&context).iter().zip(b.logits(&context)).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(largest > 0.01 && largest < 1.0, "{largest}");
}

#[test]
fn tokens_outside_the_vocabulary_count_modulo_256() {
    assert_eq!(byte_of(300), 44);
    assert_eq!(byte_of(-1), 255);
    let shifted: Vec<i32> = tokens("The model ").iter().map(|t| t + 512).collect();
    assert_eq!(model().logits(&shifted), model().logits(&tokens("The model ")));
}

#[test]
fn prompt_scores_have_one_entry_per_token_the_first_being_none() {
    let prompt = tokens("The loss is");
    let questions = PromptQuestions { logprobs: true, top: 2, ..PromptQuestions::default() };
    let scores = model().score_prompt(&prompt, &questions);
    assert_eq!((scores.logprobs.len(), scores.top.len()), (prompt.len(), prompt.len()));
    assert!(scores.draws.is_empty() && scores.targets.is_empty());
    assert_eq!((&scores.logprobs[0], &scores.top[0]), (&None, &None));
    for position in 1..prompt.len() {
        let logits = model().logits(&prompt[..position]);
        assert_eq!(scores.logprobs[position], Some(logits[prompt[position] as usize]));
        let top = scores.top[position].as_ref().unwrap();
        assert_eq!((top.len(), top[0].0), (2, argmax(&logits)));
    }
}

/// Draws are independent, follow the probabilities at the temperature, and carry the unmodified logprobs.
#[test]
fn draws_for_prompt_positions_follow_the_probabilities_at_the_temperature() {
    let prompt = tokens("The t");
    let ask = |temperature, seed| {
        let questions = PromptQuestions { draws: 400, temperature, seed, ..PromptQuestions::default() };
        model().score_prompt(&prompt, &questions).draws
    };
    let drawn = ask(1.0, 7);
    assert_eq!(drawn.len(), prompt.len() - 1);
    for (row, draws) in drawn.iter().enumerate() {
        let logits = model().logits(&prompt[..=row]);
        assert!(draws.iter().all(|(token, value)| logits[*token as usize] == *value));
        let best = argmax(&logits);
        let share = draws.iter().filter(|(token, _)| *token == best).count() as f32 / 400.0;
        assert!((share - logits[best as usize].exp()).abs() < 0.13, "row {row}: {share}");
        assert!(
            ask(0.0, 7)[row].iter().all(|(token, _)| *token == best),
            "temperature 0 draws the likeliest"
        );
    }
    assert_eq!(drawn, ask(1.0, 7));
    assert_ne!(drawn, ask(1.0, 8));
}

#[test]
fn prompt_scores_can_be_limited_to_the_last_positions() {
    let prompt = tokens("The loss is");
    let ask = |last| PromptQuestions { logprobs: true, top: 1, last, ..PromptQuestions::default() };
    let all = model().score_prompt(&prompt, &ask(None));
    for last in [1, 3, prompt.len(), 99] {
        let some = model().score_prompt(&prompt, &ask(Some(last)));
        let first = prompt.len().saturating_sub(last);
        assert!(
            some.logprobs[..first].iter().all(Option::is_none)
                && some.top[..first].iter().all(Option::is_none)
        );
        assert_eq!(some.logprobs[first..], all.logprobs[first..]);
        assert_eq!(some.top[first..], all.top[first..]);
    }
    let none = model().score_prompt(&prompt, &PromptQuestions::default());
    assert!(none.logprobs.is_empty() && none.top.is_empty());
}

#[test]
fn target_logprobs_dense_and_sparse_agree_and_minus_one_asks_nothing() {
    let prompt = tokens("abc");
    let dense =
        Targets::new(2, 2, TargetCells::Dense(vec![i64::from(b'x'), -1, -1, i64::from(b'c')])).unwrap();
    let csr = TargetCells::Csr {
        crow: vec![0, 1, 2],
        columns: vec![0, 1],
        values: vec![i64::from(b'x'), i64::from(b'c')],
    };
    let sparse = Targets::new(2, 2, csr).unwrap();
    let score = |targets| {
        let questions = PromptQuestions { targets: Some(targets), ..PromptQuestions::default() };
        model().score_prompt(&prompt, &questions).targets
    };
    let x = model().logits(&prompt[..1])[usize::from(b'x')];
    let c = model().logits(&prompt[..2])[usize::from(b'c')];
    assert_eq!(score(&dense), [x, 0.0, 0.0, c]);
    assert_eq!(score(&sparse), [x, c]);
}

#[test]
fn targets_that_do_not_fit_their_shape_are_refused() {
    assert!(Targets::new(2, 2, TargetCells::Dense(vec![1, 2, 3])).is_err());
    let csr = |crow: &[i64], columns: &[i64]| {
        let values = vec![1; columns.len()];
        Targets::new(2, 2, TargetCells::Csr { crow: crow.to_vec(), columns: columns.to_vec(), values })
    };
    assert!(csr(&[0, 1, 2], &[0, 1]).is_ok());
    assert!(csr(&[0, 2], &[0, 1]).is_err(), "one bound too few");
    assert!(csr(&[0, 2, 1], &[0, 1]).is_err(), "bounds go back");
    assert!(csr(&[0, 1, 2], &[0, 2]).is_err(), "column out of range");
    assert!(csr(&[0, 1, 3], &[0, 1]).is_err(), "more cells than values");
}

proptest! {
    /// Top-k keeps at most k tokens, and the likeliest; top-p the smallest set that holds the mass; both sum to one.
    #[test]
    fn top_k_and_top_p_restrict_the_support(
        text in "[ -~]{0,8}",
        k in 1_usize..300,
        p in 0.01_f64..1.0,
        temperature in 0.05_f64..3.0,
    ) {
        let full = model().probabilities(&tokens(&text));
        let plan = GenerationPlan { temperature, top_k: Some(k), ..GenerationPlan::default() };
        let by_k = plan.restrict(&full);
        let by_both = GenerationPlan { top_p: p, ..plan }.restrict(&full);
        for restricted in [&by_k, &by_both] {
            prop_assert!((restricted.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
        let support = |d: &[f64; VOCABULARY]| d.iter().filter(|p| **p > 0.0).count();
        prop_assert!(support(&by_k) <= k.min(VOCABULARY));
        prop_assert!(support(&by_both) >= 1 && support(&by_both) <= support(&by_k));
        // No excluded token is likelier than a kept one.
        for restricted in [&by_k, &by_both] {
            let kept = (0..VOCABULARY).filter(|t| restricted[*t] > 0.0).map(|t| full[t]).fold(f64::MAX, f64::min);
            let left = (0..VOCABULARY).filter(|t| restricted[*t] == 0.0).map(|t| full[t]).fold(0.0, f64::max);
            prop_assert!(left <= kept * (1.0 + 1e-12) || temperature < 0.1, "{left} left out, {kept} kept");
        }
        // The kept mass reaches p, and without its least member it would not.
        let mass: f64 = (0..VOCABULARY).filter(|t| by_both[*t] > 0.0).map(|t| by_k[t]).sum();
        let least = (0..VOCABULARY).filter(|t| by_both[*t] > 0.0).map(|t| by_k[t]).fold(f64::MAX, f64::min);
        prop_assert!(mass >= p - 1e-9 && mass - least < p + 1e-9);
    }

    /// Samples stay within the restricted support.
    #[test]
    fn samples_come_from_the_restricted_support(seed: u64, k in 1_usize..6) {
        let prompt = tokens("The batch ");
        let plan = GenerationPlan { max_tokens: 12, top_k: Some(k), stop: Stop::Never, ..GenerationPlan::default() };
        let mut context = prompt.clone();
        for token in model().generate(&prompt, &plan, seed).tokens {
            let probabilities = model().probabilities(&context);
            let likelier = probabilities.iter().filter(|p| **p > probabilities[token as usize]).count();
            prop_assert!(likelier < k);
            context.push(token);
        }
    }
}
