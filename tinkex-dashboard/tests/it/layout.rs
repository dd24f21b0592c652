//! What a person would find wrong with the dashboard at first sight.

use tinkex_dashboard::dashboard::{COLUMNS, Dashboard, TEXT};

#[test]
fn panels_fill_the_grid_and_do_not_overlap() {
    let dashboard = Dashboard::read(TEXT).unwrap();
    let height = dashboard.panels.iter().map(|panel| panel.place.y + panel.place.h).max().unwrap();
    let covered = |x: u32, y: u32| {
        let covers = |start: u32, length: u32, at: u32| (start..start + length).contains(&at);
        let here = dashboard.panels.iter().filter(|panel| {
            covers(panel.place.x, panel.place.w, x) && covers(panel.place.y, panel.place.h, y)
        });
        here.count()
    };
    for y in 0..height {
        for x in 0..COLUMNS {
            assert_eq!(covered(x, y), 1, "column {x}, row {y}");
        }
    }
}

#[test]
fn rows_ask_the_questions_and_graphs_explain_themselves() {
    let dashboard = Dashboard::read(TEXT).unwrap();
    let rows = dashboard.panels.iter().filter(|panel| panel.graph.is_none());
    let rows: Vec<_> = rows.map(|panel| panel.title.as_str()).collect();
    assert_eq!(rows, ["Is it moving?", "What is it waiting for?", "What does it cost?", "Is it alive?"]);
    for (panel, graph) in dashboard.graphs() {
        assert!(panel.description.ends_with('.'), "{} has no description", panel.title);
        assert!(!graph.queries.is_empty(), "{} asks nothing", panel.title);
    }
}
