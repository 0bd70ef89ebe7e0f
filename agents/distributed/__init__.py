"""Work shared by several processes, over Ray: `rollouts=ray`.

`rollouts` and `ppo` know nothing of it; `evaluation.distributed` uses the same pool.
"""

__all__: list[str] = []
