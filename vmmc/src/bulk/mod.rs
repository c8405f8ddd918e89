//! The bulk lane's bookkeeping: which segment belongs where, which has landed, what is missing, and whose turn it is.
