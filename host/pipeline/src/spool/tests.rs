use std::io::Write as _;

use super::*;

fn batch(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(length.max(8), u8::try_from(number % 251).unwrap());
    bytes
}

fn all(spool: &mut Spool) -> Vec<(u64, Record)> {
    let entries = std::iter::from_fn(|| spool.read_next().unwrap());
    entries.map(|entry| (entry.number, entry.record)).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn batches_come_back_in_their_order_and_once_acknowledged_never_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
    assert!(matches!(Spool::open(&path, MIN_LIMIT), Err(SpoolError::Used(_))));
    for number in 1..=100 {
        assert_eq!(spool.append(&batch(number, 5000), 3).unwrap(), Appended::Stored(number));
    }
    let read = all(&mut spool);
    assert_eq!(read.len(), 100);
    assert!(read.iter().all(|(number, record)| *record == Record::Batch(batch(*number, 5000))));
    assert_eq!(spool.read_next().unwrap(), None);
    spool.rewind();
    assert_eq!(all(&mut spool), read);
    let before = spool.length();
    spool.acknowledge(70).unwrap();
    assert!(spool.length() < before * 2 / 5, "segments that were acknowledged make room");
    spool.rewind();
    assert_eq!(all(&mut spool), read[70..]);
    drop(spool);
    let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
    assert_eq!((all(&mut spool), spool.waiting()), (read[70..].to_vec(), 30));
    spool.acknowledge(u64::MAX).unwrap();
    assert_eq!((spool.waiting(), spool.segments.len()), (0, 1));
    assert!(spool.length() <= MIN_LIMIT / SEGMENTS / WORTH_REMOVING, "{}", spool.length());
    // Numbers go on, also where nothing is left.
    drop(spool);
    let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
    assert_eq!(spool.read_next().unwrap(), None);
    assert_eq!(spool.append(b"x", 3).unwrap(), Appended::Stored(101));
    assert_eq!(all(&mut spool), [(101, Record::Batch(b"x".to_vec()))]);
    assert!(matches!(spool.append(&vec![0; MAX_BATCH + 1], 3), Err(SpoolError::Long(_))));
}

#[test]
fn what_finds_no_room_is_a_gap_at_its_place_also_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
    let mut stored = 0;
    while spool.append(&batch(stored + 1, 50_000), 3).unwrap() != Appended::Dropped {
        stored += 1;
    }
    assert!(spool.length() <= MIN_LIMIT && spool.length() > MIN_LIMIT - 60_000, "{}", spool.length());
    for _ in 0..9 {
        assert_eq!(spool.append(&batch(0, 50_000), 3).unwrap(), Appended::Dropped);
    }
    let crashed = directory.path().join("crashed");
    copy(&path, &crashed);
    let ended = directory.path().join("ended");
    copy(&path, &ended);
    // As many as were dropped when one finds room again.
    spool.acknowledge(stored / 2).unwrap();
    let Appended::Stored(number) = spool.append(b"after", 3).unwrap() else { panic!("there is room") };
    let read = all(&mut spool);
    assert_eq!(lost(&read), (10, 30));
    assert_eq!(read.last(), Some(&(number, Record::Batch(b"after".to_vec()))));
    let first_gap = read.iter().position(|(_, record)| matches!(record, Record::Gap(_))).unwrap();
    assert_eq!(read[first_gap].0, stored + 1, "behind what was stored before it");
    // After a crash it is known that there is one, though not how large it was.
    let mut spool = Spool::open(&crashed, MIN_LIMIT).unwrap();
    let read = all(&mut spool);
    assert_eq!((read.len() as u64, lost(&read)), (stored + 1, (1, 3)));
    // After an orderly end, how large it was. However often it is opened and is full, it does not grow further.
    for round in 1..=5 {
        let mut spool = Spool::open(&ended, MIN_LIMIT).unwrap();
        for _ in 0..5 {
            assert_eq!(spool.append(&batch(0, 50_000), 3).unwrap(), Appended::Dropped);
        }
        spool.conclude().unwrap();
        assert!(spool.length() <= MIN_LIMIT);
        if round == 1 {
            assert_eq!(lost(&all(&mut spool)), (6, 18));
        }
    }
}

/// Returns how many batches and lines are missing.
fn lost(read: &[(u64, Record)]) -> (u64, u64) {
    let gaps = read.iter().filter_map(|(_, record)| if let Record::Gap(gap) = record { Some(gap) } else { None });
    gaps.fold((0, 0), |(batches, lines), gap| (batches + gap.batches, lines + gap.lines))
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    drop(Spool::open(&path, MIN_LIMIT).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    let refused = Spool::open(&path, MIN_LIMIT).unwrap_err().to_string();
    assert!(refused.contains("others can replace files in it"), "{refused}");
}

#[test]
fn an_acknowledgement_is_never_half_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
    for number in 1..=20 {
        spool.append(&batch(number, 100), 1).unwrap();
    }
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let file = path.join(ACKNOWLEDGED);
    let before = inode(&file);
    for number in 1..=19 {
        spool.acknowledge(number).unwrap();
        // One length, in place: there is no moment at which the file is empty.
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{number:020}\n"));
    }
    assert_eq!(inode(&file), before);
    // Killed now: nothing of the 19 comes again.
    let crashed = directory.path().join("crashed");
    copy(&path, &crashed);
    let mut spool = Spool::open(&crashed, MIN_LIMIT).unwrap();
    assert_eq!(all(&mut spool), [(20, Record::Batch(batch(20, 100)))]);
}

#[test]
fn numbers_that_a_crash_took_are_used_again_with_another_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
    spool.append(b"one", 1).unwrap();
    spool.append(b"two", 1).unwrap();
    let before = [spool.read_next().unwrap().unwrap(), spool.read_next().unwrap().unwrap()];
    spool.acknowledge(2).unwrap();
    let name = spool.segments[0].name();
    drop(spool);
    // The machine lost what was not synchronized, and kept the acknowledgement.
    std::fs::File::options().write(true).open(path.join(name)).unwrap().set_len(30).unwrap();
    let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
    assert_eq!((spool.waiting(), spool.read_next().unwrap()), (0, None), "what was delivered is not missing");
    assert_eq!(spool.append(b"three", 1).unwrap(), Appended::Stored(2));
    let after = spool.read_next().unwrap().unwrap();
    assert_eq!((after.number, &after.record), (2, &Record::Batch(b"three".to_vec())));
    assert!(before.iter().all(|entry| entry.epoch == before[0].epoch && entry.epoch != after.epoch));
}

#[test]
fn reading_goes_on_where_acknowledging_and_beginning_anew_have_left_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(&directory.path().join("spool"), MIN_LIMIT).unwrap();
    for number in 1..=5 {
        spool.append(&batch(number, 10), 1).unwrap();
    }
    let found = spool.next_place().unwrap().unwrap().read().unwrap();
    spool.acknowledge(2).unwrap();
    assert_eq!(spool.take(found), None, "it was acknowledged meanwhile");
    assert_eq!(spool.read_next().unwrap().unwrap().number, 3);
    let found = spool.next_place().unwrap().unwrap().read().unwrap();
    spool.rewind();
    assert_eq!(spool.take(found), None, "reading begins anew");
    assert_eq!(spool.read_next().unwrap().unwrap().number, 3);
    // What is appended while a place is read is found afterwards.
    let place = spool.next_place().unwrap().unwrap();
    spool.append(&batch(6, 10), 1).unwrap();
    assert_eq!(spool.take(place.read().unwrap()).unwrap().number, 4);
    assert_eq!(all(&mut spool).len(), 2);
}

#[test]
fn cut_off_at_any_byte_it_has_all_whole_records() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
    let mut ends = Vec::new();
    for number in 1..=6 {
        spool.append(&batch(number, 8 + usize::try_from(number).unwrap() * 7), 3).unwrap();
        ends.push(spool.length());
    }
    spool.synchronize().unwrap();
    let name = spool.segments[0].name();
    drop(spool);
    let whole = std::fs::read(path.join(&name)).unwrap();
    for cut in 0..=whole.len() {
        std::fs::write(path.join(&name), &whole[..cut]).unwrap();
        let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
        let complete = ends.iter().filter(|&&end| end <= cut as u64).count() as u64;
        let read = all(&mut spool);
        // What was cut off in the middle is a gap.
        let torn = u64::from(cut > 0 && !ends.contains(&(cut as u64)));
        assert_eq!((read.len() as u64, lost(&read)), (complete + torn, (torn, 0)), "{cut}");
        assert!(
            read.iter()
                .take(usize::try_from(complete).unwrap())
                .all(|(number, record)| matches!(record, Record::Batch(bytes) if bytes[..8] == number.to_le_bytes()))
        );
        // And it goes on with the next number.
        assert_eq!(spool.append(b"next", 3).unwrap(), Appended::Stored(complete + torn + 1), "{cut}");
        drop(spool);
        let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
        assert_eq!(all(&mut spool).len() as u64, complete + torn + 1, "{cut}");
    }
}

#[test]
fn a_damaged_byte_anywhere_loses_what_it_must_and_says_how_much() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
    // Two records in each segment.
    let length = usize::try_from(MIN_LIMIT / SEGMENTS).unwrap() / 2 + 1;
    for number in 1..=6 {
        spool.append(&batch(number, length), 3).unwrap();
    }
    spool.synchronize().unwrap();
    let (first, last) = (spool.segments[0].name(), spool.segments[2].name());
    assert_eq!(spool.segments.len(), 3);
    drop(spool);
    let damaged = directory.path().join("damaged");
    for at in [0, 3, 4, 8, 15, 16, 24, 25, 100, length, length + 25, length + 30, 2 * length] {
        for (name, numbers) in [(&first, 1..=2_u64), (&last, 5..=6)] {
            copy(&path, &damaged);
            let mut bytes = std::fs::read(damaged.join(name)).unwrap();
            bytes[at] ^= 0x10;
            std::fs::write(damaged.join(name), &bytes).unwrap();
            let mut spool = Spool::open(&damaged, MIN_LIMIT).unwrap();
            let read = all(&mut spool);
            let batches = read.iter().filter(|(_, record)| matches!(record, Record::Batch(_)));
            let batches: Vec<u64> = batches.map(|(number, _)| *number).collect();
            let lost_records = if at < length + 25 { 2 } else { 1 };
            let rest =
                (1..=6).filter(|number| !numbers.contains(number) || (lost_records == 1 && number == numbers.start()));
            assert_eq!(batches, rest.collect::<Vec<_>>(), "{at} of {name:?}");
            // At the end, nothing says how many there were.
            assert_eq!(lost(&read), (if name == &first { lost_records } else { 1 }, 0), "{at} of {name:?}");
            drop(spool);
            std::fs::remove_dir_all(&damaged).unwrap();
        }
    }
}

#[test]
fn random_operations_with_crashes_lose_nothing_that_was_synchronized() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut path = directory.path().join("0");
    let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
    // What is stored by number, and up to where it is acknowledged.
    let (mut model, mut acknowledged) = (std::collections::BTreeMap::new(), 0_u64);
    for step in 1..400_u64 {
        match draw(10) {
            0..=5 => {
                let bytes = batch(step, usize::try_from(draw(60_000)).unwrap());
                if let Appended::Stored(number) = spool.append(&bytes, 3).unwrap() {
                    model.insert(number, bytes);
                }
            }
            6 => {
                acknowledged = acknowledged.max(draw(spool.next));
                spool.acknowledge(acknowledged).unwrap();
            }
            7 => spool.rewind(),
            8 => drop(all(&mut spool)),
            _ => {
                // Killed after it was synchronized, with a record half written.
                spool.synchronize().unwrap();
                let next = directory.path().join(step.to_string());
                copy(&path, &next);
                let last = spool.segments.back().map(Segment::name);
                if let Some(name) = last {
                    let mut file = std::fs::OpenOptions::new().append(true).open(next.join(name)).unwrap();
                    file.write_all(&[7, 0, 0, 0, 1, 2, 3]).unwrap();
                }
                drop(spool);
                std::fs::remove_dir_all(&path).unwrap();
                path = next;
                spool = Spool::open(&path, MIN_LIMIT).unwrap();
            }
        }
        assert!(spool.length() <= MIN_LIMIT);
    }
    spool.synchronize().unwrap();
    drop(spool);
    let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
    let read: std::collections::BTreeMap<u64, Record> = all(&mut spool).into_iter().collect();
    let expected = model.range(acknowledged + 1..);
    assert!(expected.clone().count() > 0);
    for (number, bytes) in expected {
        assert_eq!(read.get(number), Some(&Record::Batch(bytes.clone())), "{number}");
    }
}
