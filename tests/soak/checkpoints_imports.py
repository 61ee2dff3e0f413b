"""What the processes of `checkpoints` share: imported once, in the server that they are forked from."""

import tests.soak.checkpoints  # noqa: F401
from train import pretrain, train_recognition, train_sign_to_text, train_text_to_sign  # noqa: F401
