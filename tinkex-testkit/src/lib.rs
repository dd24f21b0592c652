//! tinkex-testkit
