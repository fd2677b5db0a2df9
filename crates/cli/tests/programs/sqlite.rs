//! The sqlite3 shell, on a volume, so that the host's sqlite3 can judge what it wrote.

use crate::harness::{run_with_input, scratch, succeed, words};

#[test]
fn a_database_on_a_volume() {
    for journal in ["delete", "wal", "truncate"] {
        let directory = scratch(&format!("sqlite-{journal}"));
        let volume = format!("{}:/data", directory.display());
        let script = format!(
            "pragma journal_mode={journal};\n\
             create table t (n integer primary key, text text);\n\
             with recursive c(n) as (select 1 union all select n + 1 from c where n < 5000)\n\
             insert into t select n, 'row ' || n from c;\n\
             delete from t where n % 5 = 0;\n\
             vacuum;\n\
             select count(*) from t;\n"
        );
        let outcome = run_with_input(
            &["-v", &volume],
            &["/usr/bin/sqlite3", "/data/x.db"],
            &script,
        );
        assert_eq!(
            outcome.stdout,
            format!("{journal}\n4000\n"),
            "{}",
            outcome.stderr
        );
        let mut host = words("/usr/bin/sqlite3");
        host.arg(directory.join("x.db"));
        host.arg("pragma integrity_check; select count(*), max(text) from t;");
        assert_eq!(succeed(host), "ok\n4000|row 999\n");
    }
}
