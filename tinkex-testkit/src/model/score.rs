//! What a model thinks of a prompt: logprobs, alternatives and target logprobs per position, in one pass.

use std::fmt;

use super::generate::{alternatives, draw};
use super::language_model::{History, logprob};
use super::{GenerationPlan, LanguageModel, SplitMix64, byte_of};

/// Tokens to score at the places of a prompt: a matrix with one row per prompt position but the first. A cell of −1
/// asks nothing and scores 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    rows: usize,
    columns: usize,
    cells: TargetCells,
}

/// The cells of [`Targets`].
#[derive(Clone, Debug, PartialEq)]
pub enum TargetCells {
    /// All cells, row by row.
    Dense(Vec<i64>),
    /// The cells of a compressed-sparse-row matrix.
    Csr {
        /// Where each row's cells begin in `values`; one entry more than rows.
        crow: Vec<i64>,
        /// The column of each cell.
        columns: Vec<i64>,
        /// The token asked for in each cell.
        values: Vec<i64>,
    },
}

/// Why cells and shape do not make a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetsError(String);

impl fmt::Display for TargetsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TargetsError {}

impl Targets {
    /// A matrix of `rows` × `columns` cells.
    ///
    /// # Errors
    /// Where the number of cells, the row bounds or a column do not fit the shape.
    pub fn new(rows: usize, columns: usize, cells: TargetCells) -> Result<Self, TargetsError> {
        match &cells {
            TargetCells::Dense(values) => {
                if rows.checked_mul(columns) != Some(values.len()) {
                    return Err(TargetsError(format!(
                        "{} cells do not fill [{rows}, {columns}]",
                        values.len()
                    )));
                }
            }
            TargetCells::Csr { crow, columns: cols, values } => {
                let bounds_fit = crow.len() == rows + 1
                    && crow.first() == Some(&0)
                    && crow.windows(2).all(|pair| pair[0] <= pair[1])
                    && crow.last().copied() == i64::try_from(values.len()).ok();
                if !bounds_fit {
                    return Err(TargetsError(format!(
                        "row bounds do not fit {rows} rows of {} cells",
                        values.len()
                    )));
                }
                let in_range = |column: &i64| usize::try_from(*column).is_ok_and(|column| column < columns);
                if cols.len() != values.len() || !cols.iter().all(in_range) {
                    return Err(TargetsError(format!("column indices do not fit {columns} columns")));
                }
            }
        }
        Ok(Self { rows, columns, cells })
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// The cells, as they were given.
    pub fn cells(&self) -> &TargetCells {
        &self.cells
    }

    /// The given cells of one row.
    fn row(&self, row: usize) -> &[i64] {
        match &self.cells {
            TargetCells::Dense(values) => {
                values.get(row * self.columns..(row + 1) * self.columns).unwrap_or_default()
            }
            TargetCells::Csr { crow, values, .. } => {
                let bound =
                    |at: usize| crow.get(at).and_then(|bound| usize::try_from(*bound).ok()).unwrap_or(0);
                values.get(bound(row)..bound(row + 1)).unwrap_or_default()
            }
        }
    }
}

/// What to find out about a prompt.
#[derive(Clone, Debug, Default)]
pub struct PromptQuestions<'a> {
    /// The logprob of each prompt token.
    pub logprobs: bool,
    /// The so many likeliest tokens at each position; 0 for none.
    pub top: usize,
    /// So many independent draws of what could stand at each position; 0 for none.
    pub draws: usize,
    /// The temperature of the draws: with 0 each is the likeliest token.
    pub temperature: f64,
    /// The seed of the draws.
    pub seed: u64,
    /// Logprobs of given tokens.
    pub targets: Option<&'a Targets>,
    /// Answer `logprobs` and `top` for the last so many positions only; the others stay empty.
    pub last: Option<usize>,
}

/// The answers to [`PromptQuestions`]; empty where nothing was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptScores {
    /// One entry per prompt token; none for the first, which nothing predicts, and before the last asked for.
    pub logprobs: Vec<Option<f32>>,
    /// One row per prompt token, with the same gaps.
    pub top: Vec<Option<Vec<(i32, f32)>>>,
    /// One row per prompt token but the first, of drawn tokens with the model's logprobs for them; row i is about
    /// position i + 1.
    pub draws: Vec<Vec<(i32, f32)>>,
    /// One value per cell of the targets, in their order; 0 where the cell asked nothing.
    pub targets: Vec<f32>,
}

impl LanguageModel {
    /// Answers questions about a prompt. Costs nothing where nothing is asked, and one pass otherwise.
    pub fn score_prompt(&self, prompt: &[i32], questions: &PromptQuestions<'_>) -> PromptScores {
        let mut scores = PromptScores::default();
        let per_token = questions.logprobs || questions.top > 0;
        if !per_token && questions.draws == 0 && questions.targets.is_none() {
            return scores;
        }
        let wanted_from = prompt.len() - questions.last.unwrap_or(prompt.len()).min(prompt.len());
        // Without the per-row questions the positions before the last asked for need not be looked at.
        let all_rows = questions.draws > 0 || questions.targets.is_some();
        let plan = GenerationPlan { temperature: questions.temperature, ..GenerationPlan::default() };
        let mut random = SplitMix64::new(questions.seed);
        let mut history = History::default();
        for (position, token) in prompt.iter().enumerate() {
            let own = byte_of(*token);
            let wanted = position > 0 && position >= wanted_from;
            if position > 0 && (wanted || all_rows) {
                let probabilities = self.after(&history);
                scores.logprobs.push(wanted.then(|| logprob(&probabilities, own)));
                scores.top.push(wanted.then(|| alternatives(&probabilities, questions.top)));
                if questions.draws > 0 {
                    let drawn_from = plan.restrict(&probabilities);
                    let bytes = (0..questions.draws).map(|_| draw(&drawn_from, &mut random));
                    let row = bytes.map(|byte| (i32::from(byte), logprob(&probabilities, byte)));
                    scores.draws.push(row.collect());
                }
                if let Some(targets) = questions.targets {
                    let value = |cell: &i64| match i32::try_from(*cell) {
                        Ok(-1) | Err(_) => 0.0,
                        Ok(token) => logprob(&probabilities, byte_of(token)),
                    };
                    scores.targets.extend(targets.row(position - 1).iter().map(value));
                }
            } else {
                scores.logprobs.push(None);
                scores.top.push(None);
            }
            history.push(own);
        }
        if !questions.logprobs {
            scores.logprobs.clear();
        }
        if questions.top == 0 {
            scores.top.clear();
        }
        scores
    }
}
