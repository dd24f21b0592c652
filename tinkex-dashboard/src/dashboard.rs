//! The dashboard as Grafana stores it, as far as it matters here.

use serde_json::Value;

use crate::Failure;

/// `dashboards/tinkex.json`.
pub const TEXT: &str = include_str!("../../dashboards/tinkex.json");

/// How many columns Grafana's grid has.
pub const COLUMNS: u32 = 24;

/// A dashboard: its panels in the order of the file.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Its title.
    pub title: String,
    /// Rows and graphs.
    pub panels: Vec<Panel>,
    /// The expressions that fill the variables, such as `label_values(metric, label)`.
    pub variables: Vec<String>,
}

/// A heading or a graph.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// What it means.
    pub description: String,
    /// Where it is in the grid.
    pub place: Place,
    /// The graph; none for the heading of a row.
    pub graph: Option<Graph>,
}

/// A place in the grid, in columns and in rows of columns' height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From the left.
    pub x: u32,
    /// From the top.
    pub y: u32,
    /// The width.
    pub w: u32,
    /// The height.
    pub h: u32,
}

/// Lines over time.
#[derive(Clone, Debug)]
pub struct Graph {
    /// What the queries ask.
    pub queries: Vec<Query>,
    /// The unit, by Grafana's name for it.
    pub unit: String,
    /// Whether the lines stand on each other.
    pub stacked: bool,
    /// What it says where there is no data.
    pub without_data: String,
}

/// A query and how its lines are called.
#[derive(Clone, Debug)]
pub struct Query {
    /// PromQL with Grafana's variables.
    pub expression: String,
    /// The name of a line, with `{{label}}` for the label's value.
    pub legend: String,
}

impl Dashboard {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// What is missing or of another kind.
    pub fn read(text: &str) -> Result<Self, Failure> {
        let json: Value = serde_json::from_str(text)?;
        let panels = list(&json, "panels")?.iter().map(Panel::read).collect::<Result<_, _>>()?;
        let variables = list(&json["templating"], "list")?
            .iter()
            .filter_map(|variable| variable["query"]["query"].as_str())
            .map(str::to_owned)
            .collect();
        Ok(Self { title: text_of(&json, "title")?, panels, variables })
    }

    /// The graphs with their panels.
    pub fn graphs(&self) -> impl Iterator<Item = (&Panel, &Graph)> {
        self.panels.iter().filter_map(|panel| Some((panel, panel.graph.as_ref()?)))
    }
}

impl Panel {
    fn read(json: &Value) -> Result<Self, Failure> {
        let title = text_of(json, "title")?;
        let graph = match json["type"].as_str() {
            Some("row") => None,
            Some("timeseries") => Some(Graph::read(json).map_err(|e| format!("{title}: {e}"))?),
            other => return Err(format!("{title}: panels of the type {other:?} are not known here").into()),
        };
        let grid = &json["gridPos"];
        let place =
            Place { x: count(grid, "x")?, y: count(grid, "y")?, w: count(grid, "w")?, h: count(grid, "h")? };
        let description = json["description"].as_str().unwrap_or_default().to_owned();
        Ok(Self { title, description, place, graph })
    }
}

impl Graph {
    fn read(json: &Value) -> Result<Self, Failure> {
        let defaults = &json["fieldConfig"]["defaults"];
        let queries = list(json, "targets")?
            .iter()
            .map(|target| {
                Ok(Query { expression: text_of(target, "expr")?, legend: text_of(target, "legendFormat")? })
            })
            .collect::<Result<_, Failure>>()?;
        Ok(Self {
            queries,
            unit: text_of(defaults, "unit")?,
            stacked: defaults["custom"]["stacking"]["mode"] == "normal",
            without_data: defaults["noValue"].as_str().unwrap_or("no data").to_owned(),
        })
    }
}

impl Query {
    /// The expression with Grafana's variables filled in: all instances, and `interval` (such as `5s`) to form rates over.
    pub fn filled_in(&self, interval: &str) -> String {
        self.expression.replace("$__rate_interval", interval).replace("$instance", ".*")
    }

    /// What a line with these labels is called.
    pub fn name(&self, labels: &[(String, String)]) -> String {
        labels.iter().fold(self.legend.clone(), |name, (label, value)| {
            name.replace(&format!("{{{{{label}}}}}"), value)
        })
    }
}

fn list<'a>(json: &'a Value, name: &str) -> Result<&'a [Value], Failure> {
    let list = json[name].as_array().ok_or_else(|| format!("`{name}` is not a list"))?;
    Ok(list)
}

fn text_of(json: &Value, name: &str) -> Result<String, Failure> {
    Ok(json[name].as_str().ok_or_else(|| format!("`{name}` is not a text"))?.to_owned())
}

fn count(json: &Value, name: &str) -> Result<u32, Failure> {
    let number = json[name].as_u64().and_then(|number| u32::try_from(number).ok());
    Ok(number.ok_or_else(|| format!("`{name}` is not a number"))?)
}
