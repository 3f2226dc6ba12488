//! The heaviest groups, by the algorithm Space-Saving (Metwally, Agrawal, El Abbadi 2005): a flow of a group that is
//! not kept takes the place of the lightest one, and its weight, which is then the error of the new one.

/// A heap of groups, the lightest one first, once there are as many as are kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heavy {
    heap: Vec<u32>,
    /// The place of each group in the heap.
    places: Vec<u32>,
    /// The error of each group.
    errors: Vec<i128>,
}

impl Heavy {
    /// Makes the heap of groups with these weights.
    pub(crate) fn new(groups: usize, weight: impl Fn(u32) -> i128) -> Self {
        let heap: Vec<u32> = (0..groups as u32).collect();
        let mut heavy = Heavy { places: heap.clone(), heap, errors: vec![0; groups] };
        for place in (0..groups / 2).rev() {
            heavy.sink(place, &weight);
        }
        heavy
    }

    /// Returns the lightest group.
    pub(crate) fn lightest(&self) -> u32 {
        self.heap.first().copied().unwrap_or_default()
    }

    /// Notes the error of a group.
    pub(crate) fn set_error(&mut self, group: u32, error: i128) {
        self.errors[group as usize] = error;
    }

    /// Returns the error of a group.
    pub(crate) fn error(&self, group: u32) -> u64 {
        self.errors.get(group as usize).map_or(0, |error| u64::try_from(*error).unwrap_or(u64::MAX))
    }

    /// Restores the order after a group has become heavier.
    pub(crate) fn heavier(&mut self, group: u32, weight: impl Fn(u32) -> i128) {
        self.sink(self.places[group as usize] as usize, &weight);
    }

    fn sink(&mut self, mut place: usize, weight: &impl Fn(u32) -> i128) {
        let group = self.heap[place];
        let own = weight(group);
        loop {
            let left = 2 * place + 1;
            let Some(&first) = self.heap.get(left) else { break };
            let (mut next, mut lighter, mut least) = (left, first, weight(first));
            if let Some(&second) = self.heap.get(left + 1)
                && weight(second) < least
            {
                (next, lighter, least) = (left + 1, second, weight(second));
            }
            if own <= least {
                break;
            }
            self.put(place, lighter);
            place = next;
        }
        self.put(place, group);
    }

    fn put(&mut self, place: usize, group: u32) {
        self.heap[place] = group;
        self.places[group as usize] = place as u32;
    }
}
