//! Loss functions and their settings (PROTOCOL 12.1).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::InvalidInput;

/// A loss function that the server computes (PROTOCOL 12.1). Names the client does not know are passed on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum LossFn {
    /// Weighted negative log-likelihood of `target_tokens`.
    CrossEntropy,
    /// Policy gradient with importance weights; reads `logprobs` and `advantages`.
    ImportanceSampling,
    /// Proximal policy optimisation, see [`PpoConfig`].
    Ppo,
    /// Importance sampling with clipped weights, see [`CispoConfig`].
    Cispo,
    /// Direct reward optimisation, see [`DroConfig`].
    Dro,
    /// Group sequence policy optimisation.
    Gspo,
    /// Stabilised REINFORCE.
    StableReinforce,
    /// An uploaded custom loss (PROTOCOL 13.3).
    Custom,
    /// Another one, by its wire text.
    Other(String),
}

impl LossFn {
    /// The wire text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::CrossEntropy => "cross_entropy",
            Self::ImportanceSampling => "importance_sampling",
            Self::Ppo => "ppo",
            Self::Cispo => "cispo",
            Self::Dro => "dro",
            Self::Gspo => "gspo",
            Self::StableReinforce => "stable_reinforce",
            Self::Custom => "custom",
            Self::Other(text) => text,
        }
    }

    /// The function with settings. Without, the server's defaults hold.
    pub fn with_config(self, config: impl Into<LossFnConfig>) -> Loss {
        Loss { loss_fn: self, config: config.into() }
    }
}

impl From<String> for LossFn {
    fn from(text: String) -> Self {
        match text.as_str() {
            "cross_entropy" => Self::CrossEntropy,
            "importance_sampling" => Self::ImportanceSampling,
            "ppo" => Self::Ppo,
            "cispo" => Self::Cispo,
            "dro" => Self::Dro,
            "gspo" => Self::Gspo,
            "stable_reinforce" => Self::StableReinforce,
            "custom" => Self::Custom,
            _ => Self::Other(text),
        }
    }
}

impl From<&str> for LossFn {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<LossFn> for String {
    fn from(loss_fn: LossFn) -> Self {
        loss_fn.as_str().to_owned()
    }
}

impl fmt::Display for LossFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One setting of a loss function (PROTOCOL 12.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LossConfigValue {
    /// A number. Truth values are 1 and 0.
    Number(f64),
    /// Text.
    Text(String),
}

impl From<f64> for LossConfigValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<i32> for LossConfigValue {
    fn from(value: i32) -> Self {
        Self::Number(value.into())
    }
}

impl From<bool> for LossConfigValue {
    fn from(value: bool) -> Self {
        Self::Number(f64::from(u8::from(value)))
    }
}

impl From<&str> for LossConfigValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for LossConfigValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

/// The settings of a loss function, by name (PROTOCOL 12.1).
///
/// ```
/// use tinkex_types::LossFnConfig;
///
/// let config = LossFnConfig::new().set("kl_coeff", 0.1).set("mode", "token");
/// assert_eq!(config.entries().len(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LossFnConfig(BTreeMap<String, LossConfigValue>);

impl LossFnConfig {
    /// No settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a setting.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<LossConfigValue>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// The settings, by name.
    pub fn entries(&self) -> &BTreeMap<String, LossConfigValue> {
        &self.0
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<String>, V: Into<LossConfigValue>> FromIterator<(K, V)> for LossFnConfig {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

fn clip_thresholds(low: f64, high: f64) -> LossFnConfig {
    LossFnConfig::new().set("clip_low_threshold", low).set("clip_high_threshold", high)
}

/// Settings of [`LossFn::Ppo`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PpoConfig {
    /// The lowest ratio of new to old probability that still has a gradient. Default 0.8.
    pub clip_low_threshold: f64,
    /// The highest such ratio. Default 1.2.
    pub clip_high_threshold: f64,
}

impl Default for PpoConfig {
    fn default() -> Self {
        Self { clip_low_threshold: 0.8, clip_high_threshold: 1.2 }
    }
}

impl From<PpoConfig> for LossFnConfig {
    fn from(config: PpoConfig) -> Self {
        clip_thresholds(config.clip_low_threshold, config.clip_high_threshold)
    }
}

/// Settings of [`LossFn::Cispo`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CispoConfig {
    /// The least ratio of new to old probability that weighs a token. Default 0.8.
    pub clip_low_threshold: f64,
    /// The greatest such ratio. Default 1.2.
    pub clip_high_threshold: f64,
}

impl Default for CispoConfig {
    fn default() -> Self {
        Self { clip_low_threshold: 0.8, clip_high_threshold: 1.2 }
    }
}

impl From<CispoConfig> for LossFnConfig {
    fn from(config: CispoConfig) -> Self {
        clip_thresholds(config.clip_low_threshold, config.clip_high_threshold)
    }
}

/// Settings of [`LossFn::Dro`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DroConfig {
    /// The weight of the quadratic penalty. Default 0.05.
    pub beta: f64,
}

impl Default for DroConfig {
    fn default() -> Self {
        Self { beta: 0.05 }
    }
}

impl From<DroConfig> for LossFnConfig {
    fn from(config: DroConfig) -> Self {
        Self::new().set("beta", config.beta)
    }
}

/// A loss function with its settings (PROTOCOL 12.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// The function.
    pub loss_fn: LossFn,
    /// Its settings; empty leaves them to the server.
    pub config: LossFnConfig,
}

impl Loss {
    /// Checks what can be known before sending.
    ///
    /// # Errors
    /// Where the function has no name, or a number is not finite.
    pub fn validate(&self) -> Result<(), InvalidInput> {
        if self.loss_fn.as_str().is_empty() {
            return Err(InvalidInput::new("loss_fn", "must not be empty"));
        }
        for (name, value) in self.config.entries() {
            if let LossConfigValue::Number(number) = value
                && !number.is_finite()
            {
                return Err(InvalidInput::new(
                    "loss_fn_config",
                    format!("must hold finite numbers, but `{name}` is {number}"),
                ));
            }
        }
        Ok(())
    }
}

impl From<LossFn> for Loss {
    fn from(loss_fn: LossFn) -> Self {
        Self { loss_fn, config: LossFnConfig::default() }
    }
}
