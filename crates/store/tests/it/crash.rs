//! A real process, killed with SIGKILL at many points while it writes.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use peerage_content::PieceIndex;
use peerage_store::Written;

use crate::support::{BLOCK, MIB, Sample, open};

const DIR: &str = "PEERAGE_TEST_CRASH_DIR";
const TEST: &str = "crash::a_killed_process_loses_only_what_it_was_writing";
const THREADS: u32 = 3;
const RUN: usize = 8;

fn sample() -> Sample {
    Sample::new(5 * MIB + 11 * BLOCK + 13, 77)
}

/// The writer: takes a token from stdin for each write and says on stdout when it is done.
fn write_until_killed(dir: &Path) {
    let sample = sample();
    let store = open(dir);
    let content = sample.create(&store);
    let blocks = |piece: u32| sample.layout().blocks(PieceIndex(piece)) as usize;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (sample, content) = (&sample, content.clone());
            scope.spawn(move || {
                for piece in (thread..sample.layout().pieces()).step_by(THREADS as usize) {
                    for first in (0..blocks(piece)).step_by(RUN) {
                        let count = RUN.min(blocks(piece) - first);
                        let have = content.partial(PieceIndex(piece));
                        if have.contains(first as u32) || content.have().contains(PieceIndex(piece)) {
                            continue;
                        }
                        if std::io::stdin().lock().read_exact(&mut [0]).is_err() {
                            return;
                        }
                        let written = sample.write_blocks(&content, piece, first, count).unwrap();
                        let mark = if written == Written::Verified { 'v' } else { 'b' };
                        // One write call a line, so that lines of threads do not mix.
                        std::io::stdout()
                            .write_all(format!("\n@{mark} {piece} {first} {count}\n").as_bytes())
                            .unwrap();
                        std::io::stdout().flush().unwrap();
                    }
                }
            });
        }
    });
}

/// What the writer said before it was killed.
#[derive(Default)]
struct Said {
    blocks: BTreeSet<(u32, u32)>,
    verified: BTreeSet<u32>,
}

impl Said {
    fn hear(&mut self, line: &str) -> bool {
        let Some((_, line)) = line.split_once('@') else { return false };
        let fields: Vec<&str> = line.split(' ').collect();
        let [mark, piece, first, count] = fields[..] else { return false };
        let (piece, first): (u32, u32) = (piece.parse().unwrap(), first.parse().unwrap());
        self.blocks.extend((first..first + count.parse::<u32>().unwrap()).map(|block| (piece, block)));
        if mark == "v" {
            self.verified.insert(piece);
        }
        true
    }
}

#[test]
fn a_killed_process_loses_only_what_it_was_writing() {
    if let Some(dir) = std::env::var_os(DIR) {
        return write_until_killed(Path::new(&dir));
    }
    let sample = sample();
    for lines in 0..18 {
        let temp = tempfile::tempdir().unwrap();
        let mut said = Said::default();
        // Killed twice in one life of the directory, then finished.
        for _ in 0..2 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", TEST, "--nocapture"])
                .env(DIR, temp.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // One write more than is waited for in each thread: these are under way, or not, when the signal comes.
            let mut tokens = child.stdin.take().unwrap();
            tokens.write_all(&vec![0; lines + THREADS as usize]).unwrap();
            let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut heard = 0;
            while heard < lines {
                heard += usize::from(said.hear(&output.next().unwrap().unwrap()));
            }
            child.kill().unwrap();
            // What it said between our last look and its death counts as well.
            output.map_while(Result::ok).for_each(|line| _ = said.hear(&line));
            assert!(!child.wait().unwrap().success());
        }
        let store = open(temp.path());
        let Some(content) = store.get(sample.id()).unwrap() else {
            assert!(said.blocks.is_empty());
            continue;
        };
        let (have, mut known) = (content.have(), 0);
        for piece in sample.layout().indexes() {
            let partial = content.partial(piece);
            let holds = |block: u32| have.contains(piece) || partial.contains(block);
            assert!(have.contains(piece) || !said.verified.contains(&piece.0), "piece {piece} was verified");
            for block in 0..sample.layout().blocks(piece) {
                assert!(holds(block) || !said.blocks.contains(&(piece.0, block)), "block {block} of {piece}");
                known += usize::from(holds(block));
            }
        }
        assert!(known <= said.blocks.len() + 2 * THREADS as usize * RUN && !content.is_complete());
        sample.check(&content);
        sample.finish(&content);
    }
}
