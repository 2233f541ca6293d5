//! Decides what became of each due time.
//!
//! A due time has the files that were received after what belongs to the one before it, up to and including itself. As long as it
//! has none that satisfies it, those received afterwards are for it too, until half of the way to the next due time. So each file
//! is for one due time at most, and the order in which the files are given does not matter.

use jiff::{SignedDuration, Timestamp};

use super::schedule::Schedule;
use super::{Arrival, ArrivalOutcome, ArrivedState, DiscardedArrival};

/// The most due times that are judged at a time; the next call continues.
pub const JUDGED_MAX: usize = 1_000;

/// How many due times are kept open because a file of theirs has not ended.
const OPEN_MAX: usize = 100;
/// For how long.
const OPEN_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Times in the store are whole milliseconds, and so must be those that are judged.
const TICK: SignedDuration = SignedDuration::from_millis(1);

/// What is expected.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    pub schedule: &'a Schedule,
    pub records_min: Option<u64>,
}

/// What has been judged for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The last due time that is not judged any more.
    pub due: Timestamp,
    /// What was received until then belongs to it or to earlier ones.
    pub until: Timestamp,
}

/// The files that match a contract. Their times are whole milliseconds.
#[derive(Clone, Debug, Default)]
pub struct ArrivedFiles {
    pub arrivals: Vec<Arrival>,
    pub discarded: Vec<DiscardedArrival>,
}

/// What became of a due time, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub due: Timestamp,
    pub verdict: Verdict,
    /// The last file that was discarded, if nothing has satisfied it.
    pub discarded: Option<DiscardedArrival>,
    /// What was received until then belongs to it or to earlier ones.
    pub until: Timestamp,
    /// Whether the file that decided it may still turn out not to be what was expected.
    pub is_provisional: bool,
    /// Whether it is judged for good.
    pub is_final: bool,
}

/// What became of a due time, with the file that decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Expected,
    OnTime(Arrival),
    Late(Arrival),
    Missing,
    TooSmall(Arrival),
    /// The last of the files that came in addition.
    Repeated(Arrival),
}

impl Verdict {
    pub fn outcome(&self) -> ArrivalOutcome {
        match self {
            Self::Expected => ArrivalOutcome::Expected,
            Self::OnTime(_) => ArrivalOutcome::OnTime,
            Self::Late(_) => ArrivalOutcome::Late,
            Self::Missing => ArrivalOutcome::Missing,
            Self::TooSmall(_) => ArrivalOutcome::TooSmall,
            Self::Repeated(_) => ArrivalOutcome::Repeated,
        }
    }

    pub fn arrival(&self) -> Option<&Arrival> {
        match self {
            Self::Expected | Self::Missing => None,
            Self::OnTime(arrival)
            | Self::Late(arrival)
            | Self::TooSmall(arrival)
            | Self::Repeated(arrival) => Some(arrival),
        }
    }
}

/// How a file counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worth {
    /// It has what is required.
    Enough,
    /// It may still turn out not to have it.
    Unknown,
    TooFew,
}

impl Terms<'_> {
    fn worth(&self, arrival: &Arrival) -> Worth {
        match (arrival.state, self.records_min) {
            (ArrivedState::Waiting, _) => Worth::Unknown,
            (ArrivedState::Staged | ArrivedState::Held, Some(_)) => Worth::Unknown,
            (ArrivedState::Ingested { records }, Some(least)) if records < least => Worth::TooFew,
            (ArrivedState::Duplicate, _) => Worth::TooFew,
            _ => Worth::Enough,
        }
    }
}

/// Judges the due times after `closed` in their order, up to the first one after `now`: the one that is open.
pub fn judge(terms: &Terms<'_>, closed: Closed, files: &ArrivedFiles, now: Timestamp) -> Vec<Judgement> {
    let mut arrivals: Vec<&Arrival> = files.arrivals.iter().collect();
    arrivals.sort_unstable();
    let mut discarded: Vec<&DiscardedArrival> = files.discarded.iter().collect();
    discarded.sort_unstable();
    let mut judgements = Vec::new();
    let mut from = closed.until.max(closed.due);
    let mut due = terms.schedule.next(closed.due);
    while let Some(at) = due
        && judgements.len() < JUDGED_MAX
    {
        let next = terms.schedule.next(at);
        let half = next.map_or(at, |next| half_way(at, next));
        let period = Period { from, due: at, half };
        let judgement = period.judge(terms, &arrivals, &discarded, now);
        from = judgement.until;
        judgements.push(judgement);
        due = next.filter(|_| at <= now);
    }
    close_old(&mut judgements);
    judgements
}

/// When the time after a due time in which a late file is for it is over.
pub fn half_way(due: Timestamp, next: Timestamp) -> Timestamp {
    due + next.duration_since(due) / 2
}

/// A due time that is waited for too long is closed as it is.
fn close_old(judgements: &mut [Judgement]) {
    let old = judgements.len().saturating_sub(OPEN_MAX);
    for judgement in &mut judgements[..old] {
        (judgement.is_final, judgement.is_provisional) = (true, false);
    }
}

/// A due time, and what may belong to it.
struct Period {
    /// What was received until then belongs to earlier due times.
    from: Timestamp,
    due: Timestamp,
    half: Timestamp,
}

impl Period {
    fn judge(
        &self,
        terms: &Terms<'_>,
        arrivals: &[&Arrival],
        discarded: &[&DiscardedArrival],
        now: Timestamp,
    ) -> Judgement {
        let taken = self.taken(terms, arrivals);
        let verdict = self.verdict(terms, &taken, discarded, now);
        let is_satisfied = verdict.outcome().is_satisfied();
        let until = match taken.last() {
            Some(last) if is_satisfied => last.received_at.max(self.due),
            _ => self.half - TICK,
        };
        let is_of_this =
            |file: &&&DiscardedArrival| file.received_at > self.from && file.received_at <= until;
        let discarded = discarded.iter().rfind(is_of_this).filter(|_| !is_satisfied);
        let waits = taken.iter().any(|arrival| terms.waits_for(arrival));
        let is_final = now >= self.half && (!waits || now.duration_since(self.due) > OPEN_FOR);
        let is_unknown = verdict.arrival().is_some_and(|arrival| terms.worth(arrival) == Worth::Unknown);
        let is_repeated = verdict.outcome() == ArrivalOutcome::Repeated;
        Judgement {
            due: self.due,
            verdict,
            discarded: discarded.map(|file| (*file).clone()),
            until,
            is_provisional: is_unknown && !is_repeated && !is_final,
            is_final,
        }
    }

    /// The files that are for this due time, in the order of their arrival.
    fn taken<'a>(&self, terms: &Terms<'_>, arrivals: &[&'a Arrival]) -> Vec<&'a Arrival> {
        let begin = arrivals.partition_point(|arrival| arrival.received_at <= self.from);
        let end = arrivals.partition_point(|arrival| arrival.received_at <= self.due);
        let mut taken = arrivals[begin..end.max(begin)].to_vec();
        // Of those received at the same time, all are late or none is.
        let mut satisfied_at =
            taken.iter().find(|arrival| terms.worth(arrival) != Worth::TooFew).map(|first| first.received_at);
        for arrival in &arrivals[end.max(begin)..] {
            let at = arrival.received_at;
            if at >= self.half || satisfied_at.is_some_and(|satisfied_at| satisfied_at < at) {
                break;
            }
            taken.push(arrival);
            if terms.worth(arrival) != Worth::TooFew {
                satisfied_at.get_or_insert(at);
            }
        }
        taken
    }

    fn verdict(
        &self,
        terms: &Terms<'_>,
        taken: &[&Arrival],
        discarded: &[&DiscardedArrival],
        now: Timestamp,
    ) -> Verdict {
        let position = |worth| taken.iter().position(|arrival| terms.worth(arrival) == worth);
        if let Some(enough) = position(Worth::Enough) {
            let further = taken[enough + 1..].last().map(|arrival| (*arrival).clone());
            let since = taken[enough].received_at;
            let duplicate = discarded.iter().rfind(|file| {
                file.is_duplicate() && file.received_at > since && file.received_at <= self.due
            });
            let further = further.max(duplicate.map(|file| as_arrival(file)));
            return further.map_or_else(|| self.arrived(taken[enough]), Verdict::Repeated);
        }
        if let Some(unknown) = position(Worth::Unknown) {
            return self.arrived(taken[unknown]);
        }
        match taken.last() {
            Some(last) => Verdict::TooSmall((*last).clone()),
            None if self.due <= now => Verdict::Missing,
            None => Verdict::Expected,
        }
    }

    fn arrived(&self, arrival: &Arrival) -> Verdict {
        let is_late = arrival.received_at > self.due;
        if is_late { Verdict::Late(arrival.clone()) } else { Verdict::OnTime(arrival.clone()) }
    }
}

impl Terms<'_> {
    /// Whether the file may still change the verdict.
    fn waits_for(&self, arrival: &Arrival) -> bool {
        match arrival.state {
            ArrivedState::Waiting | ArrivedState::Staged => true,
            ArrivedState::Held => self.records_min.is_some(),
            ArrivedState::Ingested { .. } | ArrivedState::Duplicate => false,
        }
    }
}

fn as_arrival(file: &DiscardedArrival) -> Arrival {
    Arrival {
        received_at: file.received_at,
        file: file.file.clone(),
        ingestion: None,
        state: ArrivedState::Duplicate,
    }
}

#[cfg(test)]
mod tests;
