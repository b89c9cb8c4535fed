"""The coefficients of the solvers.

Dormand & Prince, J. Comput. Appl. Math. 6 (1980) 19: an explicit pair of orders 5(4), with the continuous extension of
Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, 2nd ed., Springer 1993, ch. II.6 (order 4).

RODAS: a stiffly accurate Rosenbrock method of order 4(3) with a continuous extension of order 3; Hairer & Wanner,
Solving Ordinary Differential Equations II, 2nd ed., Springer 1996, ch. IV.7 and appendix.
"""

from __future__ import annotations

import numpy as np

# Dormand-Prince: stage s starts from y + h Σ A[s, j] k_j at t + C[s] h; the seventh stage is the result itself.
DP_C = np.array([0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1])
DP_A = np.zeros((7, 6))
DP_A[1, :1] = [1 / 5]
DP_A[2, :2] = [3 / 40, 9 / 40]
DP_A[3, :3] = [44 / 45, -56 / 15, 32 / 9]
DP_A[4, :4] = [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729]
DP_A[5, :5] = [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656]
DP_A[6, :6] = [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84]
# The difference of the two orders.
DP_E = np.array([71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40])
# The last coefficient of the continuous extension.
DP_D = np.array(
    [
        -12715105075 / 11282082432,
        0,
        87487479700 / 32700410799,
        -10690763975 / 1880347072,
        701980252875 / 199316789632,
        -1453857185 / 822651844,
        69997945 / 29380423,
    ]
)

# RODAS in the transformed variables: (1/(hγ) - J) u_s = f(y + Σ A u_j, t + c h) + Σ C u_j / h + h d f_t.
RODAS_GAMMA = 0.25
RODAS_C = np.array([0, 0.386, 0.21, 0.63, 1, 1])
RODAS_D = np.array([0.25, -0.1043, 0.1035, -0.3620000000000023e-01, 0, 0])
RODAS_A = np.zeros((6, 5))
RODAS_A[1, :1] = [1.544]
RODAS_A[2, :2] = [0.9466785280815826, 0.2557011698983284]
RODAS_A[3, :3] = [3.314825187068521, 2.896124015972201, 0.9986419139977817]
RODAS_A[4, :4] = [1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950]
RODAS_A[5] = [1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950, 1]
RODAS_G = np.zeros((6, 5))
RODAS_G[1, :1] = [-5.6688]
RODAS_G[2, :2] = [-2.430093356833875, -0.2063599157091915]
RODAS_G[3, :3] = [-0.1073529058151375, -9.594562251023355, -20.47028614809616]
RODAS_G[4, :4] = [7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160]
RODAS_G[5] = [8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054]
# The continuous extension: two further combinations of the stages.
RODAS_H = np.array(
    [
        [10.12623508344586, -7.487995877610167, -34.80091861555747, -7.992771707568823, 1.025137723295662, 0],
        [-0.6762803392806898, 6.087714651680015, 16.43084320892478, 24.76722511418386, -6.594389125716872, 0],
    ]
)
