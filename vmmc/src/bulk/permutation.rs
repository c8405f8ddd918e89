//! Putting segments in order that have landed in one another's places.
//!
//! A permutation falls into cycles. Each is resolved with one segment's worth of memory beside: save what lies in one of its positions, move into each hole
//! what belongs there, and put what was saved into the last hole.
//!
//! ```text
//!   position   0  1  2  3          save 0 (segment 2)        2 | .  0  1  3
//!   segment    2  0  1  3          copy 1 to 0, 2 to 1       2 | 0  1  .  3
//!                                  restore to 2                  0  1  2  3
//! ```

/// One step. Positions are numbered as segments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Keep aside what lies in this position.
    Save(u32),
    /// Copy what lies in one position to another.
    Copy {
        /// Where it lies.
        from: u32,
        /// Where it belongs.
        to: u32,
    },
    /// Put what was kept aside in this position.
    Restore(u32),
}

/// The shortest sequence of moves that brings segment `i` to position `i`, for all of them, when position `i` holds segment `order[i]`: none when each is where
/// it belongs. `None` if `order` is no permutation.
pub(crate) fn moves(order: &[u32]) -> Option<Vec<Move>> {
    const NOWHERE: u32 = u32::MAX;
    let mut position_of = vec![NOWHERE; order.len()];
    for (position, &segment) in order.iter().enumerate() {
        let known = position_of.get_mut(segment as usize)?;
        if std::mem::replace(known, position as u32) != NOWHERE {
            return None;
        }
    }
    let mut moves = Vec::new();
    for start in 0..order.len() as u32 {
        let mut hole = start;
        let mut from = position_of[start as usize];
        if from == start {
            continue;
        }
        moves.push(Move::Save(start));
        while from != start {
            moves.push(Move::Copy { from, to: hole });
            position_of[hole as usize] = hole;
            hole = from;
            from = position_of[hole as usize];
        }
        moves.push(Move::Restore(hole));
        position_of[hole as usize] = hole;
    }
    Some(moves)
}

#[cfg(test)]
mod tests;
